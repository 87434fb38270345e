"""Precisions: torch dtypes and TF32, in which a GPU rounds the factors of float32 products."""

import torch

#: By the names that rows and options have, the most precise first.
ARITHMETICS = ("float64", "float32", "tf32", "bfloat16", "float16")
#: The first compute capability whose tensor cores multiply in TF32.
_TF32 = (8, 0)


def dtype_of(arithmetic: str) -> torch.dtype:
    """Dtype of the tensors; TF32's is float32."""
    dtype: torch.dtype = getattr(torch, "float32" if arithmetic == "tf32" else arithmetic)
    return dtype


def why_not(arithmetic: str, device: torch.device) -> str | None:
    """None if a device has the arithmetic, else the reason in a sentence."""
    if arithmetic == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < _TF32):
        return "tf32 needs a GPU of compute capability {}.{} or higher.".format(*_TF32)
    return None


def eps(dtype: torch.dtype, device: torch.device) -> float:
    """Machine epsilon of products: of float32 under TF32 that of float16, which keeps as many bits."""
    tf32 = device.type == "cuda" and str(torch.backends.cuda.matmul.fp32_precision) == "tf32"
    return torch.finfo(torch.float16 if tf32 and dtype == torch.float32 else dtype).eps


def use(arithmetic: str) -> None:
    """Set the arithmetic of float32 products in this process, also for cuDNN, whose default is TF32."""
    tf32 = arithmetic == "tf32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
