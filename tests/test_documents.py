"""What the documents show works as shown."""

import re
import shlex
from pathlib import Path

import click
import pytest
import typer

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(text, id=f"{path.name}-{place}")
    for path in DOCUMENTS
    for place, text in enumerate(
        re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )
]
FENCED = re.compile(r"^ *```(?:sh)?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^ *(vallum .*?)(?=^ *(?:vallum|pip|make) |\Z)", re.DOTALL | re.MULTILINE)
COMMANDS = [
    pytest.param(command, id=" ".join(command.split())[:60])
    for path in [*DOCUMENTS, *(ROOT / "src/vallum/cli").rglob("*.py")]
    for block in FENCED.findall(path.read_text("utf-8"))
    for command in COMMAND.findall(block)
]
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)  # of a table, whose commands are there to be tried
SPAN = re.compile(r"`(vallum [a-z]+ [^`]+)`")
SPANS = [
    pytest.param(command, id=" ".join(command.split())[:60])
    for path in DOCUMENTS
    for row in ROW.findall(path.read_text("utf-8"))
    for command in SPAN.findall(row)
    if "..." not in command and len(command.split()) > 3  # the one stands for what is left out, the other is a name
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("line", [*COMMANDS, *SPANS])
def test_commands_are_of_the_right_form(line: str) -> None:
    """Parsed as the shell and the command line would, without running anything."""
    from vallum.cli import app

    words = shlex.split(line.replace("\\\n", " ").split(" | ")[0].split(" > ")[0], comments=True)[1:]
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    while hasattr(command, "list_commands"):  # a group: `vallum patch make`
        words = words[1:]
        context = click.Context(command, info_name=words[0])
        command = command.get_command(context, words[0])
        assert command is not None, words[0]
    assert not meant_for_the_shell(line), "a shell does not hand this on: quote it"
    command.make_context(words[0], words[1:], resilient_parsing=False)


def meant_for_the_shell(line: str) -> str:
    """What bash or zsh take for themselves: the first character outside of quotes that is not handed on.

    But for a star, which is meant to name several files.
    """
    bare = re.sub(
        r"'[^']*'|\"[^\"]*\"|\\\\.", "", line.replace("\\\n", " ").split(" | ")[0].split(" > ")[0], flags=re.DOTALL
    )
    found = re.search(r"[&;()<>|?\[\]{}$`!]", bare.split(" # ")[0])
    return found[0] if found else ""


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("vallum evaluate smp:Unet?encoder=resnet18&classes=11", "?"),
        ("vallum evaluate net:resnet --threat patch:share=(0.1)", "("),
        ('vallum evaluate "smp:Unet?encoder=resnet18&classes=11" --sweep sigma=0:1:0.1', ""),
        ("vallum results RUN --sql 'SELECT avg(loss) FROM rows' | head", ""),
    ],
)
def test_what_a_shell_keeps_is_seen(line: str, first: str) -> None:
    assert meant_for_the_shell(line) == first
