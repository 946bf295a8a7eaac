"""Make the layer tables of ``model/networks`` from the model libraries, on the meta device: no weights, no download.

    pip install timm transformers torchvision     # beside any torch
    python tools/network_tables.py                # writes the tables
    python tools/network_tables.py --check        # compares them with what the libraries give now

A forward pass on meta tensors calls every module once. Convolutions and linear layers become rows by their modules;
attention products of image networks by the batched products that are dispatched; norms, activations, pooling,
residual sums and gates by what they read and write. The rows' operations must add up to what torch's FLOP counter sees.
ResNet-50 and the transformer keep the layer names of the DLMC collection: ResNet-50's shapes are compared only, the
transformer is not made here.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

FOLDER = Path(__file__).resolve().parents[1] / "model" / "networks"
TOKENS = 128

IMAGE = {
    "resnet50": "resnet50",
    "convnext_tiny": "convnext_tiny",
    "convnext_base": "convnext_base",
    "deit_small": "deit_small_patch16_224",
    "deit_base": "deit_base_patch16_224",
    "vit_base": "vit_base_patch16_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
    "mixer_b16": "mixer_b16_224",
}
LANGUAGE: dict[str, tuple[str, dict[str, Any]]] = {
    "bert_base": ("Bert", {}),
    "bert_large": (
        "Bert", {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    ),
    "gpt2": ("GPT2", {}),
    "llama3_8b": (
        "Llama", {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                  "num_key_value_heads": 8, "vocab_size": 128256},
    ),
    "llama3_70b": (
        "Llama", {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
                  "num_key_value_heads": 8, "vocab_size": 128256},
    ),
}  # fmt: skip
COMPARED_ONLY = {"resnet50"}
"""Tables whose layers carry another source's names."""

LAYERS = ("network", "layer", "op", "M", "K", "columns", "per", "groups", "count", "input_elements", "source")
ATTENTION = ("network", "layer", "heads", "kv_heads", "head_dim", "tokens", "windows", "causal", "count", "source")
ELEMENTWISE = ("network", "op", "per", "read", "written", "count", "source")
PARAMETERS = ("network", "parameters", "products", "embeddings", "rest", "source")


@dataclass
class Seen:
    """What one forward pass did."""

    layers: list[tuple[Any, ...]] = field(default_factory=list)
    elementwise: list[tuple[str, int, int]] = field(default_factory=list)
    products: int = 0
    embeddings: int = 0
    stack: list[str] = field(default_factory=list)
    inside: int = 0
    bmm: Counter[str] = field(default_factory=Counter)


class Watch(TorchDispatchMode):
    """Notes attention products, residual sums and gates as they are dispatched."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name, seen = func.overloadpacket.__name__, self.seen
        if name == "bmm" and not seen.inside:
            (groups, M, K), N = args[0].shape, args[1].shape[2]
            where = seen.stack[-1] if seen.stack else "attention"
            seen.bmm[where] += 1
            what = "scores" if seen.bmm[where] % 2 else "values"
            seen.layers.append((f"{where}.{what}", "bmm", M, K, N, groups, None))
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        # A sum of two score matrices is part of attention, and counted there.
        if (
            name in ("add", "add_", "mul") and not seen.inside and len(tensors) == 2
            and tensors[0].shape == tensors[1].shape and tensors[0].ndim >= 3
        ):  # fmt: skip
            rows, columns = out.shape[-2:]
            if rows != columns or "attn" not in (seen.stack or [""])[-1]:
                seen.elementwise.append((name.rstrip("_"), 2 * out.numel(), out.numel()))
        return out


def kind(module: nn.Module) -> str | None:
    """What a leaf module that is no product does to memory, or None."""
    if next(module.children(), None) is not None:
        return None
    words = {"Norm": "norm", "GELU": "activation", "ReLU": "activation", "SiLU": "activation", "Pool": "pool"}
    return next((what for word, what in words.items() if word in type(module).__name__), None)


@contextmanager
def watching(model: nn.Module, seen: Seen) -> Iterator[None]:
    """Hooks on every module: products and element-wise modules by their tensors, the rest by name only."""
    handles = []

    def enter(name: str, leaf: bool) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            seen.stack.append(name)
            seen.inside += leaf

        return hook

    def leave(module: nn.Module, name: str, leaf: bool) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], out: Any) -> None:
            seen.stack.pop()
            seen.inside -= leaf
            if leaf:
                note(module, name, given[0], out, seen)

        return hook

    for name, module in model.named_modules():
        leaf = kind(module) is not None or isinstance(module, (nn.Conv2d, nn.Linear)) or is_transposed(module)
        handles += [
            module.register_forward_pre_hook(enter(name, leaf)),
            module.register_forward_hook(leave(module, name, leaf)),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def is_transposed(module: nn.Module) -> bool:
    """GPT-2's ``Conv1D``: a linear layer that keeps its weight as (in, out)."""
    return type(module).__name__ == "Conv1D"


def note(module: nn.Module, name: str, x: torch.Tensor, y: torch.Tensor, seen: Seen) -> None:
    """A row for a product, a line of traffic for anything else."""
    if isinstance(module, nn.Conv2d):
        groups, columns = module.groups, prod(y.shape[2:])
        K = module.in_channels // groups * prod(module.kernel_size)
        op = "conv" if groups == 1 else "depthwise"
        seen.layers.append((name, op, module.out_channels // groups, K, columns, groups, x.numel() // groups))
        seen.products += module.weight.numel()
    elif isinstance(module, nn.Linear) or is_transposed(module):
        weight = module.weight
        M, K = weight.shape[::-1] if is_transposed(module) else weight.shape
        seen.layers.append((name, "linear", M, K, y.numel() // M, 1, None))
        seen.products += weight.numel()
    else:
        seen.elementwise.append((str(kind(module)), x.numel(), y.numel()))


def run(model: nn.Module, x: torch.Tensor) -> tuple[Seen, int]:
    """What a forward pass does, and the operations that torch's own counter sees."""
    seen = Seen()
    seen.embeddings = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    with FlopCounterMode(display=False) as counter:
        model(x)
    with watching(model, seen), Watch(seen):
        model(x)
    return seen, int(counter.get_total_flops())


def merged(network: str, seen: Seen, per: str, units: int, source: str) -> list[tuple[Any, ...]]:
    """Rows with the blocks' numbers taken out of the names and equal layers counted.

    A layer that does not run once per unit (a pooler, which sees one token of a sequence) is left out.
    """
    rows: Counter[tuple[Any, ...]] = Counter()
    for name, op, M, K, N, groups, elements in seen.layers:
        if op == "bmm" and per == "token":
            continue  # depends on the sequence: a row of attention.csv
        if N % units:
            continue
        name = re.sub(r"^(?:model|transformer|bert)\.", "", name)
        name = re.sub(r"(?:^|(?<=\.))(blocks|layers|layer|h)\.\d+\.", r"\1.", name) if per == "token" else re.sub(
            r"(blocks)\.\d+\.", r"\1.", name)  # fmt: skip
        name = re.sub(r"^(?:encoder\.layer|layers|h)\.", "", name) if per == "token" else name
        key = (network, name.removesuffix(".fn"), op, M, K, N // units, per, groups)
        rows[(*key, "" if elements is None else elements // units)] += 1
    return [(*row[:8], count, row[8], source) for row, count in rows.items()]


def traffic(network: str, seen: Seen, per: str, units: int, source: str) -> list[tuple[Any, ...]]:
    """Element-wise work, equal lines counted."""
    lines = Counter((op, read // units, written // units) for op, read, written in seen.elementwise if read >= units)
    return [(network, op, per, read, written, count, source) for (op, read, written), count in lines.items()]


def windows(rows: list[tuple[Any, ...]], model: nn.Module) -> list[tuple[Any, ...]]:
    """Attention of an image network from its products: heads, tokens of a window, windows an image."""
    out = []
    heads = {re.sub(r"(blocks)\.\d+\.", r"\1.", name): int(module.num_heads)
             for name, module in model.named_modules() if hasattr(module, "num_heads")}  # fmt: skip
    for network, layer, op, M, K, _, _, groups, count, _, source in rows:
        if op == "bmm" and layer.endswith(".scores"):
            where = layer.removesuffix(".scores")
            out.append((network, where, heads[where], heads[where], K, M, groups // heads[where], 0, count, source))
    return out


def image(network: str, name: str) -> dict[str, list[tuple[Any, ...]]]:
    """Tables of an image network, one 224 x 224 image."""
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False).eval()
        seen, flops = run(model, torch.empty(1, 3, 224, 224))
    source = f"timm {timm.__version__} {name}, one image of 224 x 224"
    rows = merged(network, seen, "image", 1, source)
    counted = sum(2 * r[3] * r[4] * r[5] * r[7] * r[8] for r in rows)
    if counted != flops:
        raise SystemExit(f"{network}: the rows have {counted} operations, torch counts {flops}")
    return {
        network: rows,
        "attention": windows(rows, model),
        "elementwise": traffic(network, seen, "image", 1, source),
        "parameters": [parameters(network, model, seen, source)],
    }


def language(network: str, family: str, figures: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """Tables of a language model; a row counts by token."""
    import transformers

    config = getattr(transformers, f"{family}Config")(**figures)
    form = getattr(transformers, {"Bert": "BertModel", "GPT2": "GPT2LMHeadModel"}.get(family, "LlamaForCausalLM"))
    with torch.device("meta"):
        model = form(config).eval()
        seen, flops = run(model, torch.zeros(1, TOKENS, dtype=torch.long))
    source = f"transformers {transformers.__version__} {form.__name__}"
    rows = merged(network, seen, "token", TOKENS, source)
    heads, hidden = config.num_attention_heads, config.hidden_size
    kv_heads, blocks = getattr(config, "num_key_value_heads", heads), config.num_hidden_layers
    attention = 4 * TOKENS**2 * hidden * blocks
    pooler = sum(2 * M * K * N for _, op, M, K, N, *_ in seen.layers if op == "linear" and N % TOKENS)
    rope = sum(2 * M * K * N * g for name, op, M, K, N, g, _ in seen.layers if op == "bmm" and "rotary" in name)
    counted = sum(2 * r[3] * r[4] * r[5] * r[8] for r in rows) * TOKENS + attention + pooler + rope
    if counted != flops:
        raise SystemExit(f"{network}: the rows have {counted} operations, torch counts {flops}")
    causal = int(family != "Bert")
    return {
        network: rows,
        "attention": [(network, "attention", heads, kv_heads, hidden // heads, "", 1, causal, blocks, source)],
        "elementwise": traffic(network, seen, "token", TOKENS, source),
        "parameters": [parameters(network, model, seen, source)],
    }


def parameters(network: str, model: nn.Module, seen: Seen, source: str) -> tuple[Any, ...]:
    """All parameters; those of products, those of embeddings, the rest. A head tied to the embedding counts there."""
    every = sum(p.numel() for p in model.parameters())
    tied = 0
    if hasattr(model, "get_output_embeddings") and (head := model.get_output_embeddings()) is not None:
        tied = head.weight.numel() if head.weight is model.get_input_embeddings().weight else 0
    products = seen.products - tied
    return (network, every, products, seen.embeddings, every - products - seen.embeddings, source)


def text(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A CSV file's text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def make() -> dict[Path, str]:
    """Every file's text, by path."""
    found: dict[str, list[tuple[Any, ...]]] = {"attention": [], "elementwise": [], "parameters": []}
    jobs: list[dict[str, list[tuple[Any, ...]]]] = [image(*item) for item in IMAGE.items()]
    jobs += [language(network, *about) for network, about in LANGUAGE.items()]
    for job in jobs:
        for name, rows in job.items():
            found.setdefault(name, []).extend(rows)
    headers = {"attention": ATTENTION, "elementwise": ELEMENTWISE, "parameters": PARAMETERS}
    return {
        FOLDER / ("other" if name in headers else "") / f"{name}.csv": text(headers.get(name, LAYERS), rows)
        for name, rows in found.items()
    }


def shapes(content: str) -> Counter[tuple[str, ...]]:
    """The multiset of shapes of a layer table, without names."""
    rows: Counter[tuple[str, ...]] = Counter()
    for row in csv.DictReader(content.splitlines()):
        key = tuple(row[name] for name in ("op", "M", "K", "columns", "per", "groups", "input_elements"))
        rows[key] += int(row["count"])
    return rows


def main() -> int:
    """Write, or compare with what is there."""
    parser = argparse.ArgumentParser(description="Layer tables from timm and transformers, on the meta device.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table differs")
    check = parser.parse_args().check
    # torchvision's compiled operators are missing beside a torch of another build; no layer table needs them.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        try:
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:  # they are there
            break
    wrong = 0
    for path, content in make().items():
        there = path.read_text(encoding="utf-8") if path.exists() else ""
        if path.stem in COMPARED_ONLY:
            if shapes(there) != shapes(content):
                sys.stdout.write(f"{path.name}: other shapes than the library's\n")
                wrong += 1
        elif check and without_versions(there) != without_versions(content):
            sys.stdout.write(f"{path.name}: differs\n")
            wrong += 1
        elif not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
    return int(wrong > 0)


def without_versions(content: str) -> str:
    """A table's text without the library's version, which alone is no difference."""
    return re.sub(r"(timm|transformers) [\d.]+", r"\1", content)


if __name__ == "__main__":
    sys.exit(main())
