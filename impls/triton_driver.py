"""Whether Triton can start kernels on a card here."""

from functools import cache


@cache
def why_unavailable() -> str | None:
    """Return None if Triton's driver is there or can be built, else the reason in a sentence.

    Triton builds it in C at first use, and machines that were made to run programs often lack what that takes.
    """
    from triton.runtime import driver

    try:
        _ = driver.active.utils
    except Exception as error:  # a compiler, a header, a linker or a loader: each fails in a way of its own
        return f"Triton cannot build its driver, which takes a C compiler and Python.h: {' '.join(str(error).split())}"
    return None
