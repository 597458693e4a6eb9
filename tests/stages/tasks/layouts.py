"""Rows in the layouts of public data sets: columns and types as published, contents made up for the tests."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

TEXT = pa.string()
MESSAGES = pa.list_(pa.struct({"content": TEXT, "role": TEXT}))

GSM8K = [
    {
        "question": (
            "A farm sold 48 eggs in April and half as many in May. How many eggs did it sell in both?"
        ),
        "answer": (
            "In May it sold 48/2 = <<48/2=24>>24 eggs.\nTogether that is 48+24 = <<48+24=72>>72.\n#### 72"
        ),
    },
    {
        "question": "A house costs $80,000. Repairs cost $10,000 less than half of that. How much in all?",
        "answer": "Half is 40,000, so repairs cost <<40000-10000=30000>>30,000 dollars.\n#### 110,000",
    },
    {"question": "It was 4 degrees and fell by 9. What is it now?", "answer": "4-9=<<4-9=-5>>-5\n#### -5"},
]

MATH = [
    {
        "problem": "What is $\\frac{1}{2}+\\frac{1}{3}$?",
        "level": "Level 1",
        "type": "Prealgebra",
        "solution": "The sum is $\\frac{3}{6}+\\frac{2}{6}=\\boxed{\\frac{5}{6}}$.",
    },
    {
        "problem": "Find the positive root of $x^2=50$.",
        "level": "Level 2",
        "type": "Algebra",
        "solution": "It is $\\sqrt{50}$, that is $\\boxed{5\\sqrt{2}}$, since $5\\sqrt{2}>0$.",
    },
    {"problem": "Compute $2+3$.", "level": "Level 1", "type": "Algebra", "solution": "We get $\\boxed 5$."},
]

MATH_500 = [
    {
        "problem": row["problem"],
        "solution": row["solution"],
        "answer": answer,
        "subject": row["type"],
        "level": 1,
        "unique_id": f"test/{row['type'].lower()}/{i}.json",
    }
    for i, (row, answer) in enumerate(zip(MATH, ("\\frac{5}{6}", "5\\sqrt{2}", "5"), strict=True))
]

MMLU = [
    {"question": "Which is even?", "subject": "algebra", "choices": ["3", "5", "2", "1"], "answer": 2},
    {
        "question": "Which is a planet?",
        "subject": "astronomy",
        "choices": ["Sun", "Mars", "Vega", "Io"],
        "answer": 1,
    },
    {"question": "Find 1 + 0.", "subject": "algebra", "choices": ["1", "0", "3", "2"], "answer": 0},
]
MMLU_TYPES = pa.schema(
    {"question": TEXT, "subject": TEXT, "choices": pa.list_(TEXT), "answer": pa.int64()},
)
MMLU_FEATURES = datasets.Features(
    {
        "question": datasets.Value("string"),
        "subject": datasets.Value("string"),
        "choices": datasets.List(datasets.Value("string")),
        "answer": datasets.ClassLabel(names=["A", "B", "C", "D"]),
    }
)

MMLU_PRO = [
    {
        "question_id": i,
        "question": f"Which of these is {i} times ten?",
        "options": [str(10 * k) for k in range(10)],
        "answer": "ABCDEFGHIJ"[i],
        "answer_index": i,
        "cot_content": "",
        "category": "math",
        "src": "made-up",
    }
    for i in (1, 9, 4)
]

ARC = [
    {
        "id": "Mercury_1",
        "question": "What do plants take from the air?",
        "choices": {"text": ["sand", "carbon dioxide", "iron", "salt"], "label": ["A", "B", "C", "D"]},
        "answerKey": "B",
    },
    {
        "id": "TIMSS_2",
        "question": "How many legs has a spider?",
        "choices": {"text": ["4", "6", "8", "2"], "label": ["1", "2", "3", "4"]},
        "answerKey": "3",
    },
    {
        "id": "NYSED_3",
        "question": "Which one melts first?",
        "choices": {"text": ["ice", "iron", "glass"], "label": ["A", "B", "C"]},
        "answerKey": "A",
    },
]
ARC_TYPES = pa.schema(
    {
        "id": TEXT,
        "question": TEXT,
        "choices": pa.struct({"text": pa.list_(TEXT), "label": pa.list_(TEXT)}),
        "answerKey": TEXT,
    }
)

VERL = [
    {
        "data_source": "math_dapo",
        "prompt": [{"content": f"Solve it. What is {a} + {b}?", "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": str(a + b), "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"0000-{a}"},
    }
    for a, b in ((17, 17), (5, 8), (40, 2))
]
VERL[1]["prompt"].insert(0, {"content": "You are careful.", "role": "system"})
VERL_TYPES = pa.schema(
    {
        "data_source": TEXT,
        "prompt": MESSAGES,
        "ability": TEXT,
        "reward_model": pa.struct({"ground_truth": TEXT, "style": TEXT}),
        "extra_info": pa.struct({"index": TEXT}),
    }
)

DEEPSCALER = [
    {"problem": "What is 6 times 7?", "answer": "42", "solution": ""},
    {"problem": "Halve $x$.", "answer": "\\frac{x}{2}", "solution": "Divide: $\\boxed{\\frac{x}{2}}$."},
]

OLYMPIADBENCH = [
    {
        "id": 1606 + i,
        "question": f"Find the largest root of $x^2={n * n}$.",
        "solution": [f"The roots are $\\pm {n}$.", "Otherwise: factor it."],
        "final_answer": [f"${n}$"],
        "context": None,
        "image_1": None,
        "modality": "Text-only",
        "difficulty": "Competition",
        "is_multiple_answer": False,
        "unit": None,
        "answer_type": "Numerical",
        "error": None,
        "question_type": "Open-ended",
        "subfield": "Algebra",
        "subject": "Math",
        "language": "English",
    }
    for i, n in enumerate((3, 11, 2015))
]
OLYMPIADBENCH_TYPES = pa.schema(
    {
        "id": pa.int64(),
        "question": TEXT,
        "solution": pa.list_(TEXT),
        "final_answer": pa.list_(TEXT),
        "context": TEXT,
        "image_1": pa.struct({"bytes": pa.binary(), "path": TEXT}),
        "is_multiple_answer": pa.bool_(),
        "answer_type": TEXT,
        "language": TEXT,
    }
)

CHAT = [
    {
        "prompt": "Name a colour.",
        "prompt_id": "f1",
        "messages": [
            {"content": "Answer in one word.", "role": "system"},
            {"content": "Name an animal.", "role": "user"},
            {"content": "Cat.", "role": "assistant"},
            {"content": "Name a colour.", "role": "user"},
            {"content": "Blue.", "role": "assistant"},
        ],
    },
    {
        "prompt": "Say hello.",
        "prompt_id": "f2",
        "messages": [
            {"content": "Say hello.", "role": "user"},
            {"content": "Hello!", "role": "assistant"},
        ],
    },
]

_SHAREGPT_ROLES = {"user": "human", "assistant": "gpt", "system": "system"}
SHAREGPT = [
    {
        "id": row["prompt_id"],
        "conversations": [
            {"from": _SHAREGPT_ROLES[m["role"]], "value": m["content"]} for m in row["messages"]
        ],
    }
    for row in CHAT
]

HUMANEVAL = [
    {
        "task_id": f"HumanEval/{i}",
        "prompt": f'def {name}(x: int) -> int:\n    """ Return {what}. """\n',
        "canonical_solution": f"    return {body}\n",
        "test": f"METADATA = {{}}\n\n\ndef check(candidate):\n    assert candidate(3) == {value}\n",
        "entry_point": name,
    }
    for i, (name, what, body, value) in enumerate(
        [("double", "twice x", "2 * x", 6), ("square", "x times x", "x * x", 9)]
    )
]
MBPP = [
    {
        "task_id": i,
        "text": f"Write a function to {what} a number.",
        "code": f"def {name}(x):\r\n  return {body}",
        "test_list": tests,
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    for i, (what, name, body, tests) in enumerate(
        [
            ("double", "double", "2 * x", ["assert double(1) == 2", "assert double(2) == 4"]),
            ("square", "square", "x * x", ["assert square(3) == 9"]),
        ]
    )
]
APPS = [
    {
        "problem_id": i,
        "question": question,
        "solutions": json.dumps([program]),
        "input_output": json.dumps(cases),
        "difficulty": "introductory",
        "url": "https://example.org",
        "starter_code": "",
    }
    for i, (question, program, cases) in enumerate(
        [
            ("Double a number.", "print(2 * int(input()))", {"inputs": ["1\n"], "outputs": ["2\n"]}),
            (
                "Square a number.",
                "def square(x): return x * x",
                {"fn_name": "square", "inputs": [[3]], "outputs": [[9]]},
            ),
        ]
    )
]

ROWS: dict[str, list[dict[str, Any]]] = {
    "gsm8k": GSM8K,
    "math": MATH,
    "mmlu": MMLU,
    "mmlu_pro": MMLU_PRO,
    "arc": ARC,
    "verl": VERL,
    "deepscaler": DEEPSCALER,
    "olympiadbench": OLYMPIADBENCH,
    "humaneval": HUMANEVAL,
    "mbpp": MBPP,
    "apps": APPS,
    "messages": CHAT,
    "sharegpt": SHAREGPT,
}
TYPES = {"mmlu": MMLU_TYPES, "arc": ARC_TYPES, "verl": VERL_TYPES, "olympiadbench": OLYMPIADBENCH_TYPES}


def write(folder: Path, preset: str, kind: str, rows: list[dict[str, Any]] | None = None) -> Path:
    """Write the rows of a layout as jsonl, json (an array) or parquet, and return the file."""
    rows, path = rows or ROWS[preset], folder / f"{preset}.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2))
    else:
        schema = TYPES.get(preset)
        known = [{name: row[name] for name in schema.names} for row in rows] if schema else rows
        pq.write_table(pa.Table.from_pylist(known, schema=schema), path)
    return path
