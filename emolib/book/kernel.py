"""The Python that notebooks run in: this one, whatever kernels the user has installed."""

from __future__ import annotations

import sys
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec

from emolib.book.processes import held


class OwnKernel(AsyncKernelManager):
    """Starts the kernel of this environment; it holds the lock of the run as long as it lives."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """What is started."""
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name="Python 3", language="python")

    async def _async_pre_start_kernel(self, **options: Any) -> tuple[list[str], dict[str, Any]]:
        return await super()._async_pre_start_kernel(**options, pass_fds=held())
