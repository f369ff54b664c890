"""A policy that is a `policy.h`: compiled by the system's C compiler in a scratch folder, run as its own process.

Naming such a file runs it, so it is refused where a file does the naming (`tiergym.policy.load`). A program that
crashes or does not answer ends alone; modes that do not exist are refused as those of any policy are.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import weakref
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tiergym.env import actions as act
from tiergym.env.observations import NAMES
from tiergym.errors import UserError, shown, suggest
from tiergym.files import read_bytes, write_bytes
from tiergym.policy.c_header import layout_digest
from tiergym.policy.controller import TICK_MS
from tiergym.policy.fixed_point import columns_of, to_fixed

MAX_BYTES: Final = 1 << 20
COMPILE_S: Final = 60
COMPILE_KIB: Final = 4 << 20
"""Of address space for each of the compiler's processes: it includes what a file names, /dev/zero too."""
COMPILE_BLOCKS: Final = 1 << 17
"""Of 512 bytes for each file that the compiler writes: a line of C can ask for an object of any size."""
ANSWER_S: Final = 20
"""How long the program may take for one answer. It ends itself by an alarm, unless the file's own code runs before
that is set, or takes it away: then it is ended."""
COMPILERS: Final = ("cc", "gcc", "clang")
FLAGS: Final = ("-std=c99", "-O2", "-D_POSIX_C_SOURCE=199309L")
MAX_GREETING: Final = 64 << 10

PROGRAM: Final = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "policy.h"

#define ENTRIES (TIERGYM_CLASSES + TIERGYM_SETTINGS)
static struct tiergym *machines;
static uint32_t (*in)[TIERGYM_INPUTS];
static uint8_t (*out)[ENTRIES];
static uint32_t count, tick;

static void start(void)
{
	machines = realloc(machines, count * sizeof *machines);
	in = realloc(in, count * sizeof *in);
	out = realloc(out, count * sizeof *out);
	if (count && (!machines || !in || !out))
		exit(1);
	tick = 0;
	for (uint32_t i = 0; i < count; i++)
		tiergym_init(&machines[i]);
}

/* The inputs of a tick, TICK_MS after those before. */
static void decide(void)
{
	uint32_t ticks = (TIERGYM_PERIOD_MS + TICK_MS - 1) / TICK_MS;

	for (uint32_t i = 0; i < count; i++) {
		if (tick % ticks == 0)
			tiergym_update(&machines[i], in[i]);
		for (unsigned int c = 0; c < TIERGYM_CLASSES; c++)
			out[i][c] = tiergym_place(&machines[i], c, in[i][TIERGYM_IN_ABOVE_LOW_FAST]);
		for (unsigned int s = 0; s < TIERGYM_SETTINGS; s++)
			out[i][TIERGYM_CLASSES + s] = machines[i].setting[s];
	}
	tick++;
}

/* Nanoseconds of `rounds` updates of every machine with the inputs of the last tick. */
static uint64_t nanoseconds(uint32_t rounds)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (uint32_t round = 0; round < rounds; round++)
		for (uint32_t i = 0; i < count; i++)
			tiergym_update(&machines[i], in[i]);
	clock_gettime(CLOCK_MONOTONIC, &b);
	return (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
}

int main(void)
{
	uint32_t asked[2];

	alarm(ANSWER_S);
	printf("%s %d %d\n%s\n", TIERGYM_LAYOUT, (int)TIERGYM_INPUTS, (int)ENTRIES, TIERGYM_INPUT_NAMES);
	for (size_t i = 0; i < sizeof tiergym_rules; i++)
		printf("%d ", ((const uint8_t *)tiergym_rules)[i]);
	printf("\n");
	fflush(stdout);
	while (alarm(0), fread(asked, sizeof asked, 1, stdin) == 1) {
		alarm(ANSWER_S);
		if (asked[0] == 'r') {
			count = asked[1];
			start();
			continue;
		}
		if (asked[0] == 'b') {
			uint64_t took = nanoseconds(asked[1]);
			fwrite(&took, sizeof took, 1, stdout);
		} else {
			if (fread(in, sizeof *in, count, stdin) != count)
				return 1;
			decide();
			fwrite(out, sizeof *out, count, stdout);
		}
		fflush(stdout);
	}
	return 0;
}
"""


def find_compiler() -> str:
    """The system's C compiler: `CC` where it is set, else the first of `COMPILERS`. Raises `UserError` without one."""
    asked = os.environ.get("CC", "").split()
    for name in (*asked[:1], *COMPILERS):
        if (found := shutil.which(name)) is not None:
            return found
    raise UserError(f"no C compiler to compile policy.h with; allowed: one of {', '.join(COMPILERS)}, or CC=COMPILER")


class HeaderPolicy:
    """A batched policy from a policy.h; every machine has a controller of its own, from `reset` on.

    About 10 us per call and 0.1 us per machine. Machines that start a new episode in the middle of a batch need a
    `reset` of all.
    """

    def __init__(self, path: Path) -> None:
        """Raises `UserError` where the file does not compile, says that it is of another layout, or does not run."""
        self.name = path.stem
        self._path = path
        program = _compiled(path)
        self._process = subprocess.Popen(
            [str(Path(program.name) / "program")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=program.name,
            env={},
        )
        self._end = weakref.finalize(self, _end, self._process, program)
        assert self._process.stdout is not None
        self._answers = self._process.stdout.fileno()
        self._ready = select.poll()
        self._ready.register(self._answers, select.POLLIN)
        self._columns, self._rules = self._greeting()
        self._count = 0
        self.reset(1, 0)

    @property
    def plausibility(self) -> str:
        """Of the least plausible mode of its rules."""
        return act.plausibility(self._rules)

    def reset(self, num_envs: int, seed: int) -> None:
        """The fallback on `num_envs` machines; the seed plays no part."""
        self._ask(b"r", num_envs)
        self._count = num_envs

    def __call__(self, obs: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Actions (N, N_ACTIONS) int64 for observations (N, N_OBS) float32, `TICK_MS` after the call before."""
        if len(obs) != self._count:
            self.reset(len(obs), 0)
        inputs = np.ascontiguousarray(to_fixed(obs)[:, self._columns], dtype=np.uint32)
        self._ask(b"d", 0, inputs.tobytes())
        answer = self._read(len(obs) * len(act.ENTRIES))
        return np.frombuffer(answer, np.uint8).reshape(len(obs), len(act.ENTRIES)).astype(np.int64)

    def nanoseconds(self, rounds: int = 1000) -> float:
        """Of one update of one machine, with the inputs of the call before."""
        self._ask(b"b", rounds)
        return int(np.frombuffer(self._read(8), np.uint64)[0]) / max(rounds * self._count, 1)

    def _greeting(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns of the observation that the program wants, and its rules, int64 (rules, N_ACTIONS)."""
        text = b""
        while text.count(b"\n") < 3 and len(text) < MAX_GREETING:
            text += self._some(MAX_GREETING)
        lines = [line.strip() for line in text.decode(errors="replace").split("\n", 2)]
        layout, inputs, numbers = (*lines, "", "")[:3]
        wanted = f"{layout_digest()} {len(inputs.split())} {len(act.ENTRIES)}"
        if layout != wanted:
            raise UserError(
                f"{self._path}: its layout, inputs and decisions are {shown(layout)}; allowed: {wanted}, of this "
                "tiergym and of the names that it lists: export it again"
            )
        for name in inputs.split():
            if name not in NAMES:
                raise UserError(f"{self._path}: {suggest(name, NAMES, 'observation')}")
        words = numbers.split()
        if len(words) % len(act.ENTRIES) or not all(word.isascii() and word.isdecimal() for word in words):
            raise UserError(f"{self._path}: its rules are {shown(numbers)}; allowed: {len(act.ENTRIES)} modes of each")
        rules = np.array([int(word) for word in words]).reshape(-1, len(act.ENTRIES))
        wrong = np.argwhere(rules >= act.NVEC)
        if len(wrong):
            rule, index = wrong[0]
            entry = act.ENTRIES[index]
            raise UserError(
                f"{self._path}: rule {rule}: {entry.name} is {rules[rule, index]}; allowed: 0 to "
                f"{len(entry.modes) - 1} ({', '.join(entry.modes)})"
            )
        return columns_of(inputs.split()), rules

    def _ask(self, what: bytes, number: int, data: bytes = b"") -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.array([what[0], number], np.uint32).tobytes() + data)
            self._process.stdin.flush()
        except OSError as error:
            raise self._died() from error

    def _read(self, count: int) -> bytes:
        data = self._some(count)
        while len(data) < count:
            data += self._some(count - len(data))
        return data

    def _some(self, most: int) -> bytes:
        """What the program has written, at least a byte. Raises `UserError` where it has ended, or says nothing."""
        answers = self._ready.poll(1000 * (ANSWER_S + 1))
        if not answers:
            self._process.kill()
        if answers and (data := os.read(self._answers, most)):
            return data
        raise self._died(late=not answers)

    def _died(self, *, late: bool = False) -> UserError:
        self._end()
        code = self._process.returncode
        how = f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if late or code == -signal.SIGALRM:
            how = f"did not answer within {ANSWER_S} s"
        return UserError(f"{self._path}: the program made of it {how}; allowed: a policy.h of tiergym export")


def _compiled(path: Path) -> TemporaryDirectory[str]:
    """A scratch folder with the `program` made of a policy.h."""
    source, compiler = read_bytes(path, MAX_BYTES), find_compiler()
    folder = TemporaryDirectory(prefix="tiergym-policy-")
    scratch = Path(folder.name)
    write_bytes(scratch / "policy.h", source)
    write_bytes(scratch / "program.c", PROGRAM.encode())
    defined = (f"-DTICK_MS={TICK_MS}", f"-DANSWER_S={ANSWER_S}")
    limits = f"ulimit -v {COMPILE_KIB} 2>/dev/null; ulimit -f {COMPILE_BLOCKS} 2>/dev/null"
    bounded = ("sh", "-c", f'{limits}; exec "$@"', "sh")
    command = [*bounded, compiler, *FLAGS, *defined, "program.c", "-o", "program"]
    with subprocess.Popen(
        command,
        cwd=scratch,
        env={**os.environ, "TMPDIR": str(scratch)},  # of what it leaves where it is killed, too
        stdin=subprocess.DEVNULL,  # a file that includes it would wait for a person to type
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            said = process.communicate(timeout=COMPILE_S)[1]
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{path}: {compiler} did not compile it within {COMPILE_S} s") from error
        finally:  # also of Ctrl-C; the compiler's own children would go on without it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        first = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
        raise UserError(f"{path}: does not compile: {first.strip()}")
    return folder


def _end(process: subprocess.Popen[bytes], folder: TemporaryDirectory[str]) -> None:
    """End the program, if it has not ended, and remove its folder."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # of what was not yet written to a program that has ended
                pipe.close()
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()
