# ruff: noqa: RUF001 - other scripts are what is tested
"""Step-by-step solutions as instruct models write them, and loops.

No filter may drop the former; the latter must go.
"""

RIGHT = {
    "an eight-word phrase four times": (
        "Let's find the total cost of each item.\n"
        "1. To find the total cost of the pens, we multiply 3 by 2: 3 * 2 = 6 dollars.\n"
        "2. To find the total cost of the books, we multiply 4 by 9: 4 * 9 = 36 dollars.\n"
        "3. To find the total cost of the rulers, we multiply 5 by 1: 5 * 1 = 5 dollars.\n"
        "4. To find the total cost of the bags, we multiply 2 by 20: 2 * 20 = 40 dollars.\n"
        "5. The sum is 6 + 36 + 5 + 40 = 87 dollars.\n\\boxed{87}"
    ),
    "dice": "\n".join(
        f"- When the red die shows {a}, the sum of both dice is 7 if the blue die shows {7 - a}."
        for a in range(1, 7)
    )
    + "\nThese are 6 of 36 outcomes, so the probability is 6/36 = 1/6.\nAnswer: 1/6",
    "trial division": "We test the primes up to the square root of 97.\n"
    + "\n".join(
        f"97 divided by {p} leaves a remainder of {97 % p}, so 97 is not divisible by {p}."
        for p in (2, 3, 5, 7)
    )
    + "\nSo 97 is prime.\nAnswer: yes",
    "a long search": "\n".join(
        f"Step {n}: Try x = {n}. Then {n}^2 + 3 * {n} + 2 = {n * n + 3 * n + 2}, which is not 132."
        for n in range(1, 10)
    )
    + "\nStep 10: Try x = 10. Then 10^2 + 3 * 10 + 2 = 132. This is the number we look for.\n\\boxed{10}",
    "prime or not": "\n".join(
        f"{n}. {'Prime' if n in (2, 3, 5, 7, 11, 13, 17, 19) else 'Not prime'}" for n in range(2, 21)
    )
    + "\nThat makes 8 primes.\nAnswer: 8",
    "truth table": (
        "| A | B | A and B | not (A and B) |\n| --- | --- | --- | --- |\n"
        "| T | T | T | F |\n| T | F | F | T |\n| F | T | F | T |\n| F | F | F | T |\n\n"
        "The last column is true in three of four rows.\nAnswer: 3"
    ),
    "a final sentence that says it again": (
        "Tom had 20 nuts and ate 5 of them, so 20 - 5 = 15 nuts are left.\n"
        "He then bought 8 more nuts, so 15 + 8 = 23 nuts are left.\n"
        "Therefore Tom has 23 nuts in his bag now. Tom has 23 nuts in his bag now.\n\\boxed{23}"
    ),
    "equations": (
        "We solve the system.\n\\begin{align*}\nx + y &= 10 \\\\\nx - y &= 4\n\\end{align*}\n"
        "Adding both equations gives $2x = 14$, so $x = 7$.\n"
        "Substituting $x = 7$ into the first equation gives $7 + y = 10$, so $y = 3$.\n"
        "Substituting $x = 7$ into the second equation gives $7 - y = 4$, so $y = 3$ again.\n"
        "$$\\boxed{21}$$"
    ),
    "a column sum": (
        "    47\n+   38\n------\n    85\n\n7 + 8 = 15: write 5, carry 1. 4 + 3 + 1 = 8: write 8.\nAnswer: 85"
    ),
    "letters counted": (
        "The word is strawberry. s: no. t: no. r: yes, 1. a: no. w: no. b: no. e: no. r: yes, 2. r: yes, 3. "
        "y: no.\nAnswer: 3"
    ),
    "a grid": "The new grid has one living cell.\nAnswer: ["
    + ", ".join(f"[{', '.join('1' if (r, c) == (4, 4) else '0' for c in range(10))}]" for r in range(10))
    + "]",
    "digits": "One half to twenty places is 0.5"
    + "0" * 60
    + ".\nThe digits are "
    + "0 " * 40
    + "\nAnswer: 0.5",
    "a ruler": "Work:\n" + "-" * 90 + "\n3 pens and 4 pens are 7 pens.\n" + "=" * 90 + "\nAnswer: 7",
    "repeated addition": "12 times 7 is " + " + ".join(["7"] * 12) + " = 84.\nAnswer: 84",
    "a pattern": (
        "The sequence is A, B, B, A, B, B, A, B, B and so on, with a period of 3. The 50th letter is the one "
        "at position 50 mod 3 = 2 of the period, which is B.\nAnswer: B"
    ),
    "chinese": (
        "第一步：先算苹果的总价，3个苹果每个2元，共6元。\n第二步：再算梨的总价，4个梨每个3元，共12元。\n"
        "第三步：再算桃的总价，5个桃每个4元，共20元。\n第四步：三种水果一共6+12+20=38元。\n答案：\\boxed{38}"
    ),
    "logic": (
        "Every wumpus is a zumpus. Max is a wumpus. So Max is a zumpus.\n"
        "Every zumpus is a tumpus. Max is a zumpus. So Max is a tumpus.\n"
        "Every tumpus is a jompus. Max is a tumpus. So Max is a jompus.\n"
        "No jompus is a dumpus. Max is a jompus. So Max is not a dumpus.\nAnswer: False"
    ),
    "choices": (
        "(A) Cats do not lay eggs, so this option is wrong.\n"
        "(B) Dogs do not lay eggs, so this option is wrong.\n"
        "(C) Hens do lay eggs, so this option is right.\n(D) Cows do not lay eggs, so this option is wrong.\n"
        "Answer: C"
    ),
    "days": "\n".join(
        f"Day {d}: The snail is at {d - 1} m, climbs 3 m up to {d + 2} m, "
        f"and slides 2 m down to {d} m at night."
        for d in range(1, 9)
    )
    + "\nDay 9: It is at 8 m, climbs 3 m, and is out of the well of 10 m.\n\\boxed{9}",
    "cases": "\n".join(
        f"Case {n}: {who} is the thief. Then {other} tells the truth and {third} lies. "
        "This contradicts the statement of the third witness."
        for n, (who, other, third) in enumerate(
            [("Ann", "Bob", "Cid"), ("Bob", "Cid", "Dan"), ("Cid", "Ann", "Bob"), ("Dan", "Eve", "Ann")], 1
        )
    )
    + "\nOnly Eve is left, and then all three statements agree.\nAnswer: Eve",
    "a check at the end": (
        "Let x be the number of hens. There are 20 animals, so there are 20 - x cows.\n"
        "They have 2x + 4(20 - x) = 56 legs.\n80 - 2x = 56, so 2x = 24 and x = 12.\n"
        "Check: 12 hens have 24 legs, 8 cows have 32 legs, and 24 + 32 = 56.\n"
        "So there are 12 hens on the farm.\nAnswer: 12"
    ),
}

LOOPS = {
    "a sentence": "We have 3 and 4.\n" + "So we add the two numbers and get 7. " * 6 + "\nAnswer: 7",
    "counted steps": "\n".join(
        f"Step {n}: We look at the two numbers once more and add them up." for n in range(1, 12)
    )
    + "\nAnswer: 7",
    "doubts": "12 * 3 = 36. "
    + "Wait, that is not right. Let me recalculate. 12 * 3 = 36. " * 5
    + "\nAnswer: 36",
    "interrupted": "".join(
        f"Check {n}. Let me go through the whole calculation again. "
        "The sum of both numbers is seven as before. "
        for n in range(9)
    )
    + "\nAnswer: 7",
    "the whole solution again": (
        s := "Tom had 20 nuts and ate 5, so 15 are left. He bought 8, so 23 are left.\n\\boxed{23}\n"
    )
    + s
    + s,
    "words without an end": "The answer is that the answer is that " * 12 + "\nAnswer: 7",
    "syllables": "ha" * 200 + "\nAnswer: 7",
    "chinese": "三加四等于七。" + "我们再加一次。" * 40 + "\n答案：7",
    "chinese without a stop": "三加四" + "我们再算一遍看看" * 30,
    "chinese counted steps": "".join(
        f"第{n}步：我们再把这两个数加一次，看看结果是多少。" for n in range(1, 15)
    ),
    "japanese": "もう一度計算してみましょう。" * 20,
    "russian": "Давайте проверим ещё раз и сложим оба числа. " * 8,
    "thai": "ลองคิดใหม่อีกครั้ง" * 20,
}
