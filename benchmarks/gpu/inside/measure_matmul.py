"""Prints the operations per second of a large matrix product here: the ceiling of what training can reach.

On a GPU in bfloat16, on a CPU in float32; on random values, since products of zeros run faster than real ones.
"""

import json
import statistics
import sys
import time

import torch

SIZE = {"cuda": 8192, "cpu": 1024}
WARMUP, REPEATS = 5, 30


def main() -> None:
    """Time the product and print the median rate."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    size = SIZE[device]
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    out = torch.empty(size, size, device=device, dtype=kind)
    seconds = [timed(left, right, out, device) for _ in range(WARMUP + REPEATS)][WARMUP:]
    rate = 2 * size**3 / statistics.median(seconds)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    precision = str(kind).removeprefix("torch.")
    print(json.dumps({"rate": rate, "device": name, "precision": precision, "size": size}), file=sys.__stdout__)


def timed(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, device: str) -> float:
    """Return the seconds of one product, by the device's own clock where it has one."""
    if device == "cpu":
        begun = time.perf_counter()
        torch.matmul(left, right, out=out)
        return time.perf_counter() - begun
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    torch.matmul(left, right, out=out)
    last.record()
    torch.cuda.synchronize()
    return float(first.elapsed_time(last)) / 1000


if __name__ == "__main__":
    main()
