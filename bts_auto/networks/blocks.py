"""Building blocks that the networks share, for 2 and 3 spatial axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from bts_auto.errors import PlanError
from bts_auto.networks.options import UNetOptions

NORM_EPS = 1e-5
LEAKY_SLOPE = 0.01  # nnU-Net v2: torch's default slope of LeakyReLU
MAX_GROUPS = 8

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_CONV_TRANSPOSE = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_AVERAGE_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_NORMALISATIONS = (nn.InstanceNorm2d, nn.InstanceNorm3d, *_BATCH_NORMS, nn.GroupNorm)


def _normalise_instances(x: torch.Tensor, layer: nn.InstanceNorm2d | nn.InstanceNorm3d) -> torch.Tensor:
    """Normalise each channel of each sample, in the fastest way that there is.

    Groups of one channel are instances, and on a CPU torch normalises groups faster (measured with torch 2.13: forward
    2 to 8 times, backward in bf16 8 times, a step of the planned U-Net 5 %), but not in channels-last layout. Compilers
    and exporters get what they know best, without torch's checks of sizes, at which a trace would warn.
    """
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type == "cpu" and x.is_contiguous() and not traced:
        return functional.group_norm(x, layer.num_features, layer.weight, layer.bias, layer.eps)
    cudnn = torch.backends.cudnn.enabled
    return torch.instance_norm(x, layer.weight, layer.bias, None, None, True, 0.0, layer.eps, cudnn)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Torch's, faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, y, x) -> the same shape."""
        return _normalise_instances(x, self)


class InstanceNorm3d(nn.InstanceNorm3d):
    """Torch's, faster."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, z, y, x) -> the same shape."""
        return _normalise_instances(x, self)


_INSTANCE_NORM = {2: InstanceNorm2d, 3: InstanceNorm3d}


def convolution(
    dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    stride: Sequence[int] | None = None,
    *,
    bias: bool = True,
) -> nn.Module:
    """A convolution whose padding keeps the size (rounded up) at each axis divided by the stride."""
    padding = tuple((size - 1) // 2 for size in kernel_size)
    step = tuple(stride or (1,) * dims)
    return _CONV[dims](in_channels, out_channels, tuple(kernel_size), step, padding, bias=bias)  # type: ignore[arg-type]


def upsampling(
    dims: int, in_channels: int, out_channels: int, stride: Sequence[int], *, bias: bool = True
) -> nn.Module:
    """A transposed convolution whose kernel is its stride, so that no two of its outputs share an input."""
    size = tuple(stride)
    return _CONV_TRANSPOSE[dims](in_channels, out_channels, size, size, bias=bias)  # type: ignore[arg-type]


def average_pool(dims: int, stride: Sequence[int]) -> nn.Module:
    """Mean over blocks of the stride; odd sizes are rounded up, as the convolutions' are."""
    return _AVERAGE_POOL[dims](tuple(stride), tuple(stride), ceil_mode=True)  # type: ignore[arg-type]


def max_pool(dims: int, stride: Sequence[int], *, indices: bool = False) -> nn.Module:
    """Largest value of blocks of the stride, odd sizes rounded up; with `indices` also where in its channel it lies."""
    size = tuple(stride)
    return _MAX_POOL[dims](size, size, ceil_mode=True, return_indices=indices)


def normalisation(name: str, dims: int, channels: int) -> nn.Module:
    """A normalisation layer by its name in the options."""
    if name == "instance":
        return _INSTANCE_NORM[dims](channels, eps=NORM_EPS, affine=True)
    if name == "batch":
        return _BATCH_NORM[dims](channels, eps=NORM_EPS)
    if name == "group":
        groups = max(n for n in range(1, MAX_GROUPS + 1) if channels % n == 0)
        return nn.GroupNorm(groups, channels, eps=NORM_EPS)
    if name == "none":
        return nn.Identity()
    raise PlanError(f"no normalisation layer is called '{name}'")


def activation(name: str) -> nn.Module:
    """An activation by its name in the options; in place where autograd permits it."""
    if name == "leaky_relu":
        return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "elu":
        return nn.ELU(inplace=True)
    if name == "silu":
        return nn.SiLU()  # its gradient needs its input, so that it cannot be overwritten
    if name == "gelu":
        return nn.GELU()
    raise PlanError(f"no activation is called '{name}'")


class ConvBlock(nn.Module):
    """Convolution, dropout, normalisation, activation, in this order.

    Parameters
    ----------
    options : UNetOptions
        Bias, normalisation, activation and dropout.
    activate : bool
        False leaves out dropout and activation (the end of a residual branch).
    """

    def __init__(
        self,
        options: UNetOptions,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
        *,
        bias: bool | None = None,
        activate: bool = True,
    ) -> None:
        super().__init__()
        dims = len(kernel_size)
        bias = options.conv_bias if bias is None else bias
        self.conv = convolution(dims, in_channels, out_channels, kernel_size, stride, bias=bias)
        self.dropout = _DROPOUT[dims](options.dropout) if activate and options.dropout else nn.Identity()
        self.norm = normalisation(options.norm, dims, out_channels)
        self.activation = activation(options.activation) if activate else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, \\*s) -> (b, out_channels, \\*s / stride)."""
        return self.activation(self.norm(self.dropout(self.conv(x))))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut that averages instead of skipping voxels.

    References
    ----------
    He et al., Bag of Tricks for Image Classification with Convolutional Neural Networks, CVPR 2019, ResNet-D.
    """

    def __init__(
        self,
        options: UNetOptions,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        dims = len(kernel_size)
        self.first = ConvBlock(options, in_channels, out_channels, kernel_size, stride)
        self.second = ConvBlock(options, out_channels, out_channels, kernel_size, activate=False)
        strided = stride is not None and max(stride) > 1
        self.pool = average_pool(dims, stride) if strided and stride else nn.Identity()
        self.project: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.project = ConvBlock(options, in_channels, out_channels, (1,) * dims, bias=False, activate=False)
        self.activation = activation(options.activation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, c, \\*s) -> (b, out_channels, \\*s / stride)."""
        branch = self.second(self.first(x))
        return self.activation(branch.add_(self.project(self.pool(x))))


def initialise(module: nn.Module, generator: torch.Generator | None = None) -> None:
    """Draw the weights of `module` anew, in the order of its submodules, as nnU-Net does.

    Convolutions: normal with He's variance for a leaky ReLU, bias 0. Normalisation: scale 1, shift 0. The last
    normalisation of a residual branch: scale 0, so that the block starts as its shortcut.

    References
    ----------
    He et al., Delving Deep into Rectifiers, ICCV 2015, section 2.2. Goyal et al., Accurate, Large Minibatch SGD, 2017,
    section 5.1 (scale 0).
    """
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            nn.init.kaiming_normal_(part.weight, a=LEAKY_SLOPE, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, _NORMALISATIONS):
            if isinstance(part, _BATCH_NORMS):
                part.reset_running_stats()
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, ResidualBlock) and isinstance(part.second.norm, _NORMALISATIONS):
            nn.init.zeros_(part.second.norm.weight)
