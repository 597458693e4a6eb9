"""Two workers of a training without Ray around them: python -m tests.training.pair RANK PORT CONFIGS.

The processes import torch and TRL once, for every training in the list of configs.
"""

import json
import os
import sys
import traceback
from pathlib import Path

WORLD = 2


def main(rank: int, port: int, configs: Path) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": WORLD, "LOCAL_WORLD_SIZE": WORLD}
    os.environ |= {name: str(value) for name, value in names.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    import torch
    from accelerate.state import AcceleratorState, PartialState

    from pipeline.training.process import run_worker

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=WORLD)
    for config in json.loads(configs.read_text()):
        try:
            run_worker(config)
        except Exception:
            traceback.print_exc()
            os._exit(1)  # the other worker waits for this one
        AcceleratorState._reset_state()
        PartialState._reset_state()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
