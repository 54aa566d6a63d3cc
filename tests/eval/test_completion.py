"""Completion as a real bash does it, and scripts for the other shells."""

import shutil
import subprocess

import pytest

from eval.cli import COMMANDS
from eval.commands import completion
from eval.completion import completion_script
from pfedmoap.config.introspection import options_known
from pfedmoap.methods.registry import Methods

CASES = [  # what is typed, and some of what the tab key offers
    ("pfedmoap tr", {"train"}),
    ("pfedmoap ser", {"serve", "serve-clip", "serve-model"}),
    ("pfedmoap train --method ", {"promptfl", "pfedmoap", "fedsp"}),
    ("pfedmoap train --method promptf", {"promptfl", "promptfl_ft"}),
    ("pfedmoap train --training.ep", {"--training.epochs"}),
    ("pfedmoap train --method.gate_sh", {"--method.gate_sharing"}),
    ("pfedmoap train --method.gate ", {"attention", "linear", "mean"}),
    ("pfedmoap train --help method.pfed", {"method.pfedmoap", "method.pfedprompt"}),
    ("pfedmoap train --resume --backbone.precision b", {"bf16"}),
    ("pfedmoap train --data offi", {"office31", "office_caltech10", "office_home"}),
    ("pfedmoap reproduce --dr", {"--dry-run"}),
    ("pfedmoap privacy st", {"statement"}),
    ("pfedmoap privacy plan --privacy ", {"dpsgd", "release", "central"}),
    ("pfedmoap bench po", {"pool"}),
    ("pfedmoap bench pool --pre", {"--precision"}),
]


@pytest.fixture(scope="module")
def script() -> str:
    return completion_script("bash", COMMANDS)


def test_bash_completes_commands_options_and_choices(script, tmp_path):
    (tmp_path / "script").write_text(script)
    lines = [f"source {tmp_path / 'script'}"]
    for typed, _ in CASES:
        *words, last = typed.split(" ")
        listed = " ".join(f"'{word}'" for word in [*words, last])
        lines.append(
            f"COMP_WORDS=({listed}); COMP_CWORD={len(words)}; COMPREPLY=(); "
            f"_shtab_pfedmoap pfedmoap '{last}' '{words[-1]}'; echo \"${{COMPREPLY[*]}}\""
        )
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash on this machine")
    done = subprocess.run(
        [bash, "--noprofile", "--norc", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=True,
    )
    offered = [set(line.split()) for line in done.stdout.splitlines()]
    assert len(offered) == len(CASES), done.stderr
    for (typed, expected), found in zip(CASES, offered, strict=True):
        assert expected <= found, typed
        last = typed.rsplit(" ", 1)[1]
        assert all(word.startswith(last) for word in found), typed
    methods = offered[[typed for typed, _ in CASES].index("pfedmoap train --method ")]
    assert methods == set(Methods())


def test_every_command_and_its_options_are_in_the_script(script):
    for name in COMMANDS:
        assert f"_shtab_pfedmoap_{name.replace('-', '_')}_option_strings=" in script
    assert "  SHELL " in options_known(completion.main).parser.format_help()


def test_other_shells_have_scripts_and_an_unknown_one_is_refused(capsys, monkeypatch, tmp_path):
    """A shell that is installed reads its script, without running it."""
    few = {name: COMMANDS[name] for name in ("status", "privacy")}
    monkeypatch.setattr(completion, "COMMANDS", few)
    for shell, start, options in (
        ("zsh", "#compdef pfedmoap", ["_shtab_pfedmoap_privacy_verify_options", "--public_key"]),
        ("tcsh", "# AUTOMATICALLY GENERATED", ["verify"]),  # options, too, from newer shtabs
    ):
        completion.main([shell])
        shown = capsys.readouterr().out
        assert shown.startswith(start)
        assert all(words in shown for words in ["status", *options])
        (tmp_path / shell).write_text(shown)
        if program := shutil.which(shell):
            subprocess.run([program, "-n", str(tmp_path / shell)], check=True)
    with pytest.raises(SystemExit):
        completion.main(["bahs"])
    assert "nearest: bash" in capsys.readouterr().err
