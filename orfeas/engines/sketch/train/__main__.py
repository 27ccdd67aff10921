"""The steps of making the network: ``data``, ``fit``, ``export``; run one with ``--help`` for its options."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import time
from pathlib import Path

from orfeas.engines.sketch import learned
from orfeas.engines.sketch.train.dataset import BATCH, SHARD, write_shard


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: 1 or more")
    return number


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m orfeas.engines.sketch.train", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    data = steps.add_parser("data", help="draw samples, in shards; what is there already is kept")
    data.add_argument("folder", type=Path)
    data.add_argument("--first", type=int, default=0, help="number of the first shard, which is also its seed")
    data.add_argument("--shards", type=int, default=40)
    data.add_argument("--samples", type=_count, default=SHARD, help="in each new shard")
    data.add_argument("--processes", type=_count, default=1, help="that draw, each a shard at a time")
    training = steps.add_parser("fit", help="train on the shards of a folder, resuming from the checkpoint")
    training.add_argument("folder", type=Path)
    training.add_argument("checkpoint", type=Path)
    training.add_argument("--minutes", type=float, default=60.0, help="of training in all, over which the rate falls")
    training.add_argument("--start", type=Path, help="an exported network to begin with, where there is no checkpoint")
    training.add_argument("--peak", type=float, default=1.0, help="factor on the learning rates")
    training.add_argument("--device", default="cpu", help='of torch, such as "cuda"')
    training.add_argument("--batch", type=_count, default=BATCH, help="samples a step, of each process that trains")
    training.add_argument("--feeders", type=_count, default=1, help="processes that make batches; many for a GPU")
    training.add_argument("--threads", type=_count, default=1, help="of the processor that compute")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument(
        "--workers", type=_count, default=1, help="processes that train together, each started by hand"
    )
    training.add_argument("--worker", type=int, default=0, help="which of them this is, from 0")
    training.add_argument("--meeting", type=Path, help="a file, not there yet, by which they find each other")
    exporting = steps.add_parser("export", help="write the averaged network of a checkpoint as ONNX")
    exporting.add_argument("checkpoint", type=Path)
    exporting.add_argument("--other", type=Path, help="an exported network of the same descent to average with")
    exporting.add_argument("--share", type=float, default=0.3, help="how much that one counts")
    exporting.add_argument("target", type=Path, nargs="?", default=learned.MODEL)
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run one step."""
    arguments = build_parser().parse_args(arguments)
    if arguments.step == "data":
        numbers = range(arguments.first, arguments.first + arguments.shards)
        draw(arguments.folder, numbers, arguments.samples, arguments.processes)
    elif arguments.step == "fit":
        import torch

        from orfeas.engines.sketch.train.fit import fit

        torch.set_num_threads(arguments.threads)
        if arguments.workers > 1:
            meeting = f"file://{arguments.meeting.resolve()}"
            torch.distributed.init_process_group("gloo", meeting, None, arguments.workers, arguments.worker)
        fit(
            arguments.folder,
            arguments.checkpoint,
            arguments.minutes * 60,
            arguments.seed,
            arguments.start,
            arguments.peak,
            arguments.device,
            arguments.batch,
            arguments.feeders,
        )
    elif arguments.step == "export":
        from orfeas.engines.sketch.train.export import export

        other = None
        if arguments.other is not None:
            from orfeas.engines.sketch.train.restore import weights_of

            other = weights_of(arguments.other)
        size = export(arguments.checkpoint, arguments.target, other=other, share=arguments.share)
        print(f"{arguments.target}: {size} bytes")


def draw(folder: Path, numbers: range, samples: int, processes: int) -> None:
    """Write the shards of these numbers, saying how long each took."""
    job = functools.partial(_draw_one, folder, samples)
    if processes == 1:
        for number in numbers:
            print(job(number), flush=True)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for said in pool.imap_unordered(job, numbers):
            print(said, flush=True)


def _draw_one(folder: Path, samples: int, number: int) -> str:
    import cv2

    cv2.setNumThreads(1)
    started = time.monotonic()
    write_shard(folder, number, samples)
    return f"shard {number} {time.monotonic() - started:.1f} s"


if __name__ == "__main__":
    main()
