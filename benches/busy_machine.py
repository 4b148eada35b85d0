#!/usr/bin/env python3
"""Compares two routers, by default with and without busy polling, on a machine without a free processor.

    cargo build --release --features bin --bin router --bin gsb
    benches/busy_machine.py                    # all processors kept busy by other processes
    benches/busy_machine.py --free             # the same without those processes
    benches/busy_machine.py --free --b ../before/router

One caller with one open call measures them in turn. Each figure is the median over all pairs, and each ratio the
median of the pairs' ratios (first router by second). Exits with 1 if the ratio of p50 or of the router's processor time
per call is above the bound.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile

FIGURES = {
    "p50 µs": lambda result: result["microseconds"]["p50"],
    "p99 µs": lambda result: result["microseconds"]["p99"],
    "router CPU µs per call": lambda result: result["processor_microseconds_each"],
}
BOUNDED = ["p50 µs", "router CPU µs per call"]


def measure(router, gsb, seconds):
    """Starts a router, loads it, and returns the result of `gsb bench call`."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"unix:{directory}/gsb.sock"
        process = subprocess.Popen(
            [*router, "--listen", url, "--log-level", "error"], stdout=subprocess.PIPE, text=True
        )
        try:
            if not process.stdout.readline():
                sys.exit(f"{shlex.join(router)} does not start")
            bench = [gsb, "bench", "call", "--address", url, "--pid", str(process.pid), "--json"]
            one_call = ["--callers", "1", "--services", "1", "--depth", "1"]
            output = subprocess.run(
                [*bench, *one_call, "--duration", f"{seconds}s"], check=True, capture_output=True
            )
            return json.loads(output.stdout)
        finally:
            process.terminate()
            process.wait()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--a", default="target/release/router", help="first router [%(default)s]")
    parser.add_argument(
        "--b", default="target/release/router --busy-poll 0", help="second router [%(default)s]"
    )
    parser.add_argument("--gsb", default="target/release/gsb", help="load generator [%(default)s]")
    parser.add_argument("--pairs", type=int, default=15, help="[%(default)s]")
    parser.add_argument("--seconds", type=int, default=2, help="per measurement [%(default)s]")
    parser.add_argument("--bound", type=float, default=1.05, help="[%(default)s]")
    parser.add_argument("--free", action="store_true", help="keep no processor busy")
    options = parser.parse_args()

    routers = [shlex.split(options.a), shlex.split(options.b)]
    busy = 0 if options.free else os.cpu_count()
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    pairs = []
    try:
        for number in range(options.pairs):
            order = [0, 1] if number % 2 == 0 else [1, 0]
            results = {index: measure(routers[index], options.gsb, options.seconds) for index in order}
            pairs.append([results[0], results[1]])
    finally:
        for burner in burners:
            burner.kill()

    failed = False
    print(f"{len(pairs)} pairs, {busy} processors kept busy")
    for name, figure in FIGURES.items():
        first, second = ([figure(pair[index]) for pair in pairs] for index in (0, 1))
        ratio = statistics.median(a / b for a, b in zip(first, second))
        failed |= name in BOUNDED and ratio > options.bound
        medians = f"{statistics.median(first):.1f} and {statistics.median(second):.1f}"
        print(f"{name}: {medians}, ratio {ratio:.3f}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
