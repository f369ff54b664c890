"""random_model.py FILE: a model for llama.cpp with random weights: a file to be mapped and read, no sense in it.

The GGUF format, version 3: header, metadata, tensor descriptions, then the data of each tensor on a boundary.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

EMBEDDING, LAYERS, FEED_FORWARD, HEADS, HEADS_KV, VOCABULARY = 2048, 14, 5632, 16, 4, 8192
"""Of a Llama of 650 million parameters: 674 MiB."""
VERSION, ALIGNMENT = 3, 32
UINT32, INT32, FLOAT32, STRING, ARRAY = 4, 5, 6, 8, 9
"""Types of metadata."""
GGML_F32, GGML_Q8_0 = 0, 8
"""Types of tensors: floats, and blocks of 32 signed bytes behind a half-precision scale."""
BLOCK = 32
SCALE = 0.02 / 64
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Types of tokens."""
SPECIAL = ("<unk>", "<s>", "</s>")


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def array(kind: int, values: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(values)) + b"".join(values)


def metadata() -> list[bytes]:
    """Key, type and value of what llama.cpp asks for."""
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256
    words = [f"\N{LOWER ONE EIGHTH BLOCK}w{number}" for number in range(VOCABULARY - len(tokens))]
    kinds += [NORMAL] * len(words)
    tokens += words
    numbers = {
        "llama.context_length": 2048,
        "llama.embedding_length": EMBEDDING,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": FEED_FORWARD,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": HEADS_KV,
        "llama.rope.dimension_count": EMBEDDING // HEADS,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    texts = {"general.architecture": "llama", "general.name": "random", "tokenizer.ggml.model": "llama"}
    entries = [(key, STRING, text(value)) for key, value in texts.items()]
    entries += [(key, UINT32, struct.pack("<I", value)) for key, value in numbers.items()]
    entries.append(("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-5)))
    scores = [struct.pack("<f", -float(number)) for number in range(VOCABULARY)]
    entries.append(("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(token) for token in tokens])))
    entries.append(("tokenizer.ggml.scores", ARRAY, array(FLOAT32, scores)))
    entries.append(("tokenizer.ggml.token_type", ARRAY, array(INT32, [struct.pack("<i", kind) for kind in kinds])))
    return [text(key) + struct.pack("<I", kind) + value for key, kind, value in entries]


def tensors() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape, the fastest dimension first; those of one dimension are floats."""
    key_value = EMBEDDING // HEADS * HEADS_KV
    yield "token_embd.weight", (EMBEDDING, VOCABULARY)
    for layer in range(LAYERS):
        yield f"blk.{layer}.attn_norm.weight", (EMBEDDING,)
        yield f"blk.{layer}.attn_q.weight", (EMBEDDING, EMBEDDING)
        yield f"blk.{layer}.attn_k.weight", (EMBEDDING, key_value)
        yield f"blk.{layer}.attn_v.weight", (EMBEDDING, key_value)
        yield f"blk.{layer}.attn_output.weight", (EMBEDDING, EMBEDDING)
        yield f"blk.{layer}.ffn_norm.weight", (EMBEDDING,)
        yield f"blk.{layer}.ffn_gate.weight", (EMBEDDING, FEED_FORWARD)
        yield f"blk.{layer}.ffn_up.weight", (EMBEDDING, FEED_FORWARD)
        yield f"blk.{layer}.ffn_down.weight", (FEED_FORWARD, EMBEDDING)
    yield "output_norm.weight", (EMBEDDING,)
    yield "output.weight", (EMBEDDING, VOCABULARY)


def data(shape: tuple[int, ...], random: np.random.Generator) -> bytes:
    if len(shape) == 1:
        return np.ones(shape, np.float32).tobytes()
    blocks = np.zeros(shape[0] * shape[1] // BLOCK, np.dtype([("scale", "<f2"), ("weights", "i1", BLOCK)]))
    blocks["scale"] = SCALE
    blocks["weights"] = random.integers(-127, 128, blocks["weights"].shape, np.int8)
    return blocks.tobytes()


def size(shape: tuple[int, ...]) -> int:
    return 4 * shape[0] if len(shape) == 1 else shape[0] * shape[1] // BLOCK * (BLOCK + 2)


def padding(length: int) -> bytes:
    return bytes(-length % ALIGNMENT)


def main(path: Path) -> None:
    described, offset = [], 0
    for name, shape in tensors():
        kind = GGML_F32 if len(shape) == 1 else GGML_Q8_0
        described.append(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset))
        offset += size(shape) + len(padding(size(shape)))
    known = metadata()
    head = b"GGUF" + struct.pack("<IQQ", VERSION, len(described), len(known)) + b"".join(known + described)
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(head + padding(len(head)))
        for _, shape in tensors():
            file.write(data(shape, random) + padding(size(shape)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
