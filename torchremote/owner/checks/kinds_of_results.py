"""Says what the functions and modules of torch give: a tensor of floats, or of the dtype that comes in.

The names are in lists, which were measured with integers of several dtypes: what raises for them gives floats, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from .kinds_of_values import FLOATS, INTEGERS, MASK, TENSOR, promoted

GIVE_FLOATS: Final = frozenset(
    "acos acosh angle asin asinh atan atan2 atanh bfloat16 cdist cdouble cfloat cos cosh deg2rad digamma double erf "
    "erfc erfinv exp exp2 expm1 float half lgamma lerp log log10 log1p log2 logit logsumexp mean norm quantile "
    "rad2deg rand rand_like randn randn_like reciprocal rsqrt sigmoid sin sinc sinh softmax log_softmax sqrt std tan "
    "tanh true_divide var celu elu gelu glu hardsigmoid hardswish leaky_relu logsigmoid mish selu silu softmin "
    "softplus softsign tanhshrink adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d batch_norm "
    "cosine_similarity cross_entropy grid_sample group_norm instance_norm layer_norm nll_loss normalize prelu "
    "scaled_dot_product_attention".split()
)
_MAKE_FLOATS: Final = frozenset("empty eye linspace logspace ones zeros".split())
_KEEP: Final = frozenset(
    "abs alpha_dropout avg_pool1d avg_pool2d avg_pool3d broadcast_to ceil clone contiguous cpu cuda cumsum detach "
    "diagonal dropout dropout2d empty_like expand expand_as flatten flip floor gather hardtanh index_add index_fill "
    "index_select interpolate masked_fill masked_scatter masked_select max_pool1d max_pool2d max_pool3d movedim "
    "narrow neg new_empty new_ones new_zeros ones_like pad permute pixel_shuffle prod relu relu6 repeat "
    "repeat_interleave reshape reshape_as roll round scatter scatter_add select square squeeze sum t take "
    "take_along_dim tile transpose tril triu unflatten unfold unsqueeze upsample view view_as zeros_like".split()
)
_PROMOTE: Final = frozenset(
    "add addcdiv addcmul addmm baddbmm bilinear bmm cat clamp clip concat conv1d conv2d conv3d conv_transpose1d "
    "conv_transpose2d conv_transpose3d dot einsum embedding fmod hstack kron linear matmul maximum minimum mm mul "
    "multiply mv outer pow remainder stack sub subtract tensordot vstack where".split()
)
_MASKS: Final = frozenset("isnan isinf isfinite logical_and logical_or logical_xor logical_not bool".split())
_INTEGERS: Final = frozenset("argmax argmin argsort byte char count_nonzero int long short".split())

_WITH_WEIGHTS: Final = frozenset(
    "Bilinear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Embedding EmbeddingBag Linear "
    "NonDynamicallyQuantizableLinear PReLU".split()
)
_PARTS_OF_FLOATS: Final = frozenset(
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d BatchNorm1d BatchNorm2d BatchNorm3d CELU CosineSimilarity "
    "ELU GELU GLU GroupNorm Hardsigmoid Hardswish InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm LeakyReLU "
    "LogSigmoid LogSoftmax Mish RMSNorm SELU SiLU Sigmoid Softmax Softmax2d Softmin Softplus Softsign Tanh "
    "Tanhshrink".split()
)
_PARTS_THAT_KEEP: Final = frozenset(
    "AlphaDropout AvgPool1d AvgPool2d AvgPool3d ConstantPad1d ConstantPad2d ConstantPad3d Dropout Dropout1d Dropout2d "
    "Dropout3d Flatten Hardtanh Identity MaxPool1d MaxPool2d MaxPool3d PixelShuffle PixelUnshuffle ReLU ReLU6 "
    "ReflectionPad1d ReflectionPad2d ReplicationPad1d ReplicationPad2d Unflatten Upsample ZeroPad1d ZeroPad2d".split()
)


def kind_of_result(name: str, kinds: Sequence[str | None]) -> str | None:
    """Returns the kind of tensor that a function of torch gives, without a dtype. None: it may give something else.

    Args:
        kinds: those of its tensor, if it is a method, and of its arguments.
    """
    first = kinds[0] if kinds else None
    if name in GIVE_FLOATS or name in _MAKE_FLOATS:
        return FLOATS
    if name in _MASKS:
        return MASK
    if name in _INTEGERS:
        return INTEGERS
    if name in _PROMOTE:
        return promoted(*(kinds[1:] if name == "where" else kinds))
    is_in_place = name.endswith("_") and not name.endswith("__")
    if is_in_place or name in _KEEP:
        return first if first in (FLOATS, INTEGERS) else TENSOR
    if name == "div":
        return FLOATS if FLOATS in kinds else TENSOR
    return None


def kind_of_part(part: nn.Module, given: str | None) -> str | None:
    """Returns the kind of what a module of torch makes of a tensor. None: it is not torch's, or not known."""
    name = type(part).__name__
    if not type(part).__module__.startswith("torch.nn.modules") or part._forward_hooks or part._forward_pre_hooks:
        return None
    if isinstance(part, nn.Sequential):
        kind = given
        for one in part:
            kind = kind_of_part(one, kind)
        return kind
    weight = part._parameters.get("weight")
    if name in _WITH_WEIGHTS and isinstance(weight, torch.Tensor):
        return FLOATS if weight.is_floating_point() or weight.is_complex() else TENSOR
    if name in _PARTS_OF_FLOATS:
        return FLOATS
    if name in _PARTS_THAT_KEEP and not getattr(part, "return_indices", False):
        return given if given in (FLOATS, INTEGERS) else TENSOR
    return None
