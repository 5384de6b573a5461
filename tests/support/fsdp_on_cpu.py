"""The harness under FSDP2 on CPU processes; accelerate, which has FSDP for accelerators only, takes them for GPUs."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

CONFIG = Path(__file__).parents[2] / "accelerate_configs" / "fsdp2.yaml"


def main(args: list[str]) -> None:
    """Runs the command that the first argument names, with the settings of `accelerate_configs/fsdp2.yaml`."""
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType

    settings = yaml.safe_load(CONFIG.read_text())["fsdp_config"]
    os.environ |= {name.upper(): str(value).lower() for name, value in settings.items()}
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_AUTO_WRAP_POLICY": settings["fsdp_auto_wrap_policy"],
        "FSDP_STATE_DICT_TYPE": settings["fsdp_state_dict_type"],
    }
    connect = PartialState.__init__

    def connect_as_gpus(self: PartialState, *args: object, **values: object) -> None:
        connect(self, *args, **values)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = connect_as_gpus

    from harness.__main__ import main

    main(args)
