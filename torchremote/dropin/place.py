"""Reads the place that a RemoteModule is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed.rpc as rpc

from .. import _torch
from ..errors import PlaceError
from ..link.failures import check_not_forked


@dataclass(frozen=True)
class ModulePlace:
    """Says on which worker a remote module is, on which device there, and whether results may stay there."""

    on: str | int
    device: str
    is_device_map_set: bool

    @classmethod
    def at(cls, remote_device: str) -> ModulePlace:
        """Reads torch's text for a place.

        Raises:
            AssertionError: RPC is not running in this process.
            NotInitializedError: it runs in the one from which this was forked.
            ValueError: `remote_device` cannot be read.
            RuntimeError: there is no such worker, or no such kind of device.
        """
        check_not_forked()
        if not _torch.rpc_running():
            raise AssertionError("RemoteModule only works in RPC.")
        parsed = _torch.RemoteDevice(remote_device)
        on = parsed.rank() if parsed.worker_name() is None else parsed.worker_name()
        if on is None:
            raise PlaceError(f"remote_device={remote_device!r}: names no worker; write 'worker/{parsed.device()}'")
        mapped = _torch.mapped_devices(rpc.get_worker_info(on))
        return cls(on, str(parsed.device()), bool(mapped))

    @property
    def where(self) -> str:
        """Returns the place as `create` reads it."""
        worker = self.on if isinstance(self.on, str) else f"rank:{self.on}"
        return f"{worker}/{self.device}"
