"""c_sources.py FOLDER: a Makefile and C files of many functions and a large table each: compilers need memory."""

import random
import sys
from pathlib import Path

FILES, FUNCTIONS, TABLE = 8, 500, 60_000
MAKEFILE = """\
CFLAGS = -O1
objects = $(patsubst %.c,%.o,$(wildcard *.c))
program: $(objects)
\t$(CC) -o $@ $^
"""


def source(file: int) -> str:
    """One file: functions that call those before them, and a table of numbers that they read."""
    numbers = random.Random(file)
    lines = [f"static const unsigned table_{file}[] = {{"]
    lines += [" ".join(f"{numbers.randrange(1 << 32)}u," for _ in range(12)) for _ in range(TABLE // 12)]
    lines.append("};")
    for function in range(FUNCTIONS):
        step, other = numbers.randrange(1, 97), numbers.randrange(max(1, function))
        called = f"f{file}_{other}(x ^ {step})" if function else "x"
        lines += [
            f"unsigned f{file}_{function}(unsigned x) {{",
            f"    unsigned sum = {called if function % 7 else 'x'};",
            f"    for (unsigned i = x % {step + 3}; i < {step * 5}; i++) {{",
            f"        unsigned at = table_{file}[(i * {step} + x) % {TABLE // 12 * 12}u];",
            f"        switch (at % 5) {{ case 0: sum += at; break; case 1: sum ^= i << {step % 9}; break;",
            f"            case 2: sum -= x * {step}u; break; case 3: sum = (sum << 3) | (sum >> 29); break;",
            "            default: sum *= 2654435761u; }",
            "    }",
            "    return sum;",
            "}",
        ]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Makefile").write_text(MAKEFILE)
    for file in range(FILES):
        (folder / f"part{file}.c").write_text(source(file))
    last = FUNCTIONS - 1
    declared = "".join(f"unsigned f{file}_{last}(unsigned);\n" for file in range(FILES))
    called = " + ".join(f"f{file}_{last}(count)" for file in range(FILES))
    (folder / "main.c").write_text(f"{declared}int main(int count, char **words) {{ return ({called}) & 1; }}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
