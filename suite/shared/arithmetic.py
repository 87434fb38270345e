"""Precisions: torch dtypes and TF32, in which a GPU rounds the factors of float32 products."""

from enum import StrEnum

import torch

from suite.shared.devices import DeviceType

#: The first compute capability whose tensor cores multiply in TF32.
_TF32 = (8, 0)


class Arithmetic(StrEnum):
    """What products are computed in, by the names that rows and options have, in the order of tables."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    TF32 = "tf32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the tensors."""
        return _DTYPES[self]

    @property
    def rounds_factors(self) -> bool:
        """True for TF32: tensors are float32, but products round their factors."""
        return self is Arithmetic.TF32

    def why_not(self, device: torch.device) -> str | None:
        """None if a device has the arithmetic, else the reason in a sentence."""
        if not self.rounds_factors:
            return None
        if device.type != DeviceType.CUDA or torch.cuda.get_device_capability(device) < _TF32:
            return "tf32 needs a GPU of compute capability {}.{} or higher.".format(*_TF32)
        return None

    def use(self) -> None:
        """Set the arithmetic of float32 products in this process, also for cuDNN, whose default is TF32."""
        torch.set_float32_matmul_precision("high" if self.rounds_factors else "highest")
        torch.backends.cudnn.allow_tf32 = self.rounds_factors


_DTYPES = {
    Arithmetic.FLOAT64: torch.float64,
    Arithmetic.FLOAT32: torch.float32,
    Arithmetic.TF32: torch.float32,
    Arithmetic.BFLOAT16: torch.bfloat16,
    Arithmetic.FLOAT16: torch.float16,
}


def eps(dtype: torch.dtype, device: torch.device) -> float:
    """Machine epsilon of products: of float32 under TF32 that of float16, which keeps as many bits."""
    # As torch has it, not as `use` set it: a model may have changed it, and implementations follow torch. Its flag
    # `allow_tf32` cannot be read once `fp32_precision` has been set.
    tf32 = device.type == DeviceType.CUDA and torch.backends.cuda.matmul.fp32_precision == "tf32"
    return torch.finfo(torch.float16 if tf32 and dtype == torch.float32 else dtype).eps
