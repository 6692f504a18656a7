"""How what one request keeps grows with its context, for four kinds of attention.

Run: python examples/compare_kv.py
"""

from llmplan import load_model

MODELS = (
    ("llama-3.1-70b", "every layer keeps keys and values of 8 heads"),
    ("gemma-3-27b", "five of six layers keep the last 1024 tokens only"),
    ("deepseek-v3", "every layer keeps one latent for all heads"),
    ("qwen3-next-80b-a3b", "three of four layers keep a state of fixed size"),
)
CONTEXTS = (1024, 8192, 32768, 131072)
GIB = 2**30


def request_bytes(name: str, context: int) -> int:
    """Bytes of one request of ``context`` tokens: a sum over the operators of the decoder."""
    return sum(
        state.bytes_at(context) * repeats
        for operator, repeats in load_model(name).decoder.counted
        for state in operator.states
    )


def main() -> None:
    """One line a model, one column a context."""
    heads = "".join(f"{context:>10,}" for context in CONTEXTS)
    print(f"{'GiB a request at':20}{heads}")
    for name, remark in MODELS:
        sizes = "".join(f"{request_bytes(name, c) / GIB:10.3f}" for c in CONTEXTS)
        print(f"{name:20}{sizes}   {remark}")


if __name__ == "__main__":
    main()
