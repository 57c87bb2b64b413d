"""Which architectures can be hosted, and how: writes docs/models.md. `make models` runs it, in its own environment.

Each model has random weights and a small configuration. It is scripted if TorchScript takes it, and exported if
torch.export does; then its results are compared with its own, at sizes other than the example's.

    python -W ignore -m tests.models [NAME...]
"""

import argparse
import pathlib
import re
from typing import List, NamedTuple

import torch
from torch import Tensor

import torchremote as tr
from torchremote.jit import compile_interface
from torchremote.jit.runtime.exported import OTHERWISE
from torchremote.owner.scripting import scripted_module

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "models.md"
SHORT = 160  # characters of a reason


class Hidden(NamedTuple):
    last_hidden_state: Tensor


class Reads:
    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Hidden: ...


class ReadsAll:
    def forward(self, input_ids: Tensor) -> Hidden: ...


class Sees:
    def forward(self, pixel_values: Tensor) -> Hidden: ...


class Classifies:
    def forward(self, x: Tensor) -> Tensor: ...


class Detects:
    def forward(self, images: List[Tensor]) -> Tensor: ...


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 99,
    "max_position_embeddings": 128,
}
DECODER = {**SMALL, "num_key_value_heads": 2, "use_cache": False, "pad_token_id": 0}
VISION = {**{name: SMALL[name] for name in list(SMALL)[:4]}, "image_size": 32, "patch_size": 8}
TEXT = {
    "Albert": {**SMALL, "embedding_size": 16},
    "Bert": SMALL,
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "use_cache": False},
    "Camembert": SMALL,
    "Cohere": DECODER,
    "ConvBert": {**SMALL, "embedding_size": 32},
    "DebertaV2": SMALL,
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99},
    "Electra": {**SMALL, "embedding_size": 16},
    "FNet": SMALL,
    "Gemma": {**DECODER, "head_dim": 8},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "use_cache": False},
    "GPTNeo": {
        "hidden_size": 32,
        "num_layers": 2,
        "attention_types": [[["global", "local"], 1]],
        "num_heads": 4,
        "vocab_size": 99,
        "use_cache": False,
    },
    "GPTNeoX": {**SMALL, "use_cache": False},
    "Llama": DECODER,
    "MPNet": SMALL,
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "use_cache": False},
    "Mistral": DECODER,
    "MobileBert": {**SMALL, "intra_bottleneck_size": 32, "embedding_size": 32},
    "OPT": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "vocab_size": 99,
        "word_embed_proj_dim": 32,
        "use_cache": False,
    },
    "Phi": {**DECODER, "num_key_value_heads": 4},
    "Qwen2": DECODER,
    "Qwen3": {**DECODER, "head_dim": 8},
    "Roberta": SMALL,
    "RoFormer": {**SMALL, "embedding_size": 32},
    "StableLm": DECODER,
    "Starcoder2": DECODER,
    "XLNet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 99},
}
WITHOUT_MASK = ("FNet",)
ENCODERS = {"T5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99}}
IMAGES = {
    "BeitModel": VISION,
    "ConvNextModel": {"hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1], "image_size": 32},
    "DeiTModel": VISION,
    "Dinov2Model": VISION,
    "ResNetModel": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]},
    "SwinModel": {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32, "window_size": 4},
    "ViTModel": VISION,
    "CLIPVisionModel": VISION,
}
TIMM = (
    "resnet18",
    "efficientnet_b0",
    "mobilenetv3_small_050",
    "vit_tiny_patch16_224",
    "convnext_atto",
    "mixer_s32_224",
)
TORCHVISION = ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "vit_b_32", "swin_t", "convnext_tiny", "googlenet")
DETECTION = ("fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large", "retinanet_resnet50_fpn")


def words(size, length):
    torch.manual_seed(size)
    ids = torch.randint(1, 99, (size, length))
    return ids, torch.ones_like(ids)


def images(*sizes, pixels=32):
    return [(torch.randn(size, 3, pixels, pixels),) for size in sizes]


def models():
    """Yields, for each model: its library, its name, what makes it, the interface, an example, and calls."""
    import transformers

    texts = words(2, 12), [words(3, 12), words(1, 12), words(2, 20)]
    for name, options in TEXT.items():
        config, cls = getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}Model")
        make = lambda cls=cls, c=config, o=options: cls(c(**o))
        if name in WITHOUT_MASK:
            yield "transformers", f"{name}Model", make, ReadsAll, texts[0][:1], [call[:1] for call in texts[1]]
        else:
            yield "transformers", f"{name}Model", make, Reads, *texts
    for name, options in ENCODERS.items():
        config, cls = getattr(transformers, f"{name}Config"), getattr(transformers, f"{name}EncoderModel")
        make = lambda cls=cls, c=config, o=options: cls(c(**o))
        yield "transformers", f"{name}EncoderModel", make, Reads, *texts
    for name, options in IMAGES.items():
        config = getattr(transformers, name.replace("Model", "Config"))
        cls = getattr(transformers, name)
        make = lambda cls=cls, c=config, o=options: cls(c(**o))
        yield "transformers", name, make, Sees, images(2)[0], images(1, 3)
    import timm
    import torchvision

    for name in TIMM:
        make = lambda name=name: timm.create_model(name)
        yield "timm", name, make, Classifies, images(2, pixels=224)[0], images(1, 3, pixels=224)
    for name in TORCHVISION:
        make = lambda name=name: torchvision.models.get_model(name)
        yield "torchvision", name, make, Classifies, images(2, pixels=224)[0], images(1, 3, pixels=224)
    for name in DETECTION:
        make = lambda name=name: torchvision.models.get_model(name, weights_backbone=None)
        yield "torchvision", name, make, Detects, None, []


class Row(NamedTuple):
    library: str
    name: str
    scripted: str
    exported: str
    largest_difference: str


def row(library, name, make, interface, example, calls):
    torch.manual_seed(0)
    scripted = "yes"
    try:
        if example is None:
            torch.jit.script(make().eval())  # of several methods, and what they return is not one type
        else:
            scripted_module(make().eval(), compile_interface(interface).interface)
    except Exception as error:
        scripted = f"no: {reason(error)}"
    if example is None:
        return Row(library, name, scripted, "not tried", "")
    torch.manual_seed(0)
    module = make().eval()
    try:
        # The sizes of images are those of the example: torch.export takes minutes for some models otherwise.
        shapes = None if interface in (Reads, ReadsAll) else {"forward": ({0: torch.export.Dim.AUTO},)}
        exported = tr.exported(module, interface, {"forward": example}, dynamic_shapes=shapes)
    except Exception as error:
        return Row(library, name, scripted, f"no: {reason(error)}", "")
    largest, other = 0.0, "yes"
    names = [argument.name for argument in compile_interface(interface).interface.method("forward").arguments]
    for call in calls:
        try:
            found = exported(*call)
        except torch.jit.Error as error:
            other = f"for some sizes: {reason(error)}"
            continue
        wanted = module(**dict(zip(names, call, strict=True)))
        largest = max(largest, (first(found) - first(wanted)).abs().max().item())
    return Row(library, name, scripted, other, f"{largest:g}")


def first(result):
    return result if isinstance(result, Tensor) else result[0]


def reason(error):
    """The line of an error that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    refusing = [line for line in lines if "; came " in line and not line.startswith("raise ")]
    chosen = (*refusing, *lines, "")[0]
    for wanted in ("cannot be scripted: ", "cannot capture it: ", "RuntimeError: "):
        chosen = chosen.partition(wanted)[2] or chosen
    chosen = re.sub(rf"^{OTHERWISE}\w+\.forward: ", "", chosen).partition("; if the module can run")[0]
    chosen = re.sub(r"^\d+: | at 0x[0-9a-f]+", "", chosen)
    return chosen.replace("|", "/")[:SHORT].replace("<", "&lt;")


def page(rows):
    import timm
    import torchvision
    import transformers

    counts = [sum(one.exported == "yes" for one in rows), len(rows)]
    yield "# Models"
    yield ""
    yield "`make models` writes this page. Every model has random weights and a small configuration. It is scripted, as"
    yield "`create` does it, and exported, as `create(..., examples=)` does it. What is exported is compared with the"
    yield "model itself for other numbers of images or sentences, and other lengths of sentences. See"
    yield "[Modules that TorchScript refuses](exported.md)."
    yield ""
    yield (
        f"torch {torch.__version__}, transformers {transformers.__version__}, timm {timm.__version__}, torchvision "
        f"{torchvision.__version__}: {counts[0]} of {counts[1]} are exported for all sizes."
    )
    yield ""
    yield "| library | model | scripted | exported | largest difference |"
    yield "|---|---|---|---|---|"
    for one in rows:
        yield f"| {' | '.join(one)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these, and without writing the page")
    asked = parser.parse_args().names
    torch.set_num_threads(1)
    rows = []
    with torch.no_grad():
        for model in models():
            if asked and model[1] not in asked:
                continue
            rows.append(row(*model))
            print(*rows[-1], sep=" | ", flush=True)
    if not asked:
        PAGE.write_text("\n".join(page(rows)) + "\n")


if __name__ == "__main__":
    main()
