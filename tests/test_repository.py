"""The files for contributors and their tools are valid, and name only what exists."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import pfedmoap
from tests.helpers.places import ROOT

GITHUB = ROOT / ".github"
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split())
YAML_FILES = [
    *sorted(file for file in GITHUB.rglob("*") if file.suffix in (".yml", ".yaml")),
    ROOT / ".pre-commit-config.yaml",
    ROOT / "CITATION.cff",
]
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def steps(workflow: Path) -> list[dict]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [
        step | {"matrix": job.get("strategy", {}).get("matrix", {})}
        for job in jobs.values()
        for step in job["steps"]
    ]


@pytest.mark.parametrize("file", YAML_FILES, ids=name)
def test_every_yaml_file_is_valid(file):
    assert isinstance(yaml.safe_load(file.read_text()), dict)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_workflows_run_only_what_exists(workflow):
    """Each command is an existing script, an existing make target, or a comparison of versions."""
    for step in steps(workflow):
        command = step.get("run", "")
        if found := re.fullmatch(r"make \$\{\{ matrix\.(\w+) \}\}", command):
            assert set(step["matrix"][found[1]]) <= TARGETS
        elif found := re.fullmatch(r"make ([\w-]+)", command):
            assert found[1] in TARGETS
        elif found := re.fullmatch(r"bash (\S+)", command):
            assert (ROOT / found[1]).is_file()
        else:
            assert not command or command.startswith("test "), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=name)
def test_workflows_use_actions_at_a_version_and_wait_for_jobs_that_exist(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    for job in jobs.values():
        assert {job["needs"]} <= jobs.keys() if "needs" in job else True
    for step in steps(workflow):
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@\S+", step["uses"])


def test_every_change_runs_the_same_checks_as_ci_run():
    commands = {step.get("run") for step in steps(GITHUB / "workflows" / "ci.yml")}
    assert "bash .ci/run" in commands
    matrices = [step["matrix"] for step in steps(GITHUB / "workflows" / "ci.yml")]
    assert ["test-latest", "test-oldest"] in [matrix.get("target") for matrix in matrices]


def test_a_tag_publishes_the_wheel_and_the_documentation():
    release = GITHUB / "workflows" / "release.yml"
    content = yaml.safe_load(release.read_text())
    assert content[True]["push"]["tags"] == ["v*"], "YAML reads the key `on` as true"
    used = [step.get("uses", "").split("@")[0] for step in steps(release)]
    assert "pypa/gh-action-pypi-publish" in used
    assert "actions/deploy-pages" in used
    by_action = {
        step["uses"].split("@")[0]: step.get("with", {})
        for step in steps(release)
        if "uses" in step
    }
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["site_dir"]
    assert by_action["actions/upload-pages-artifact"]["path"] == site
    assert by_action["actions/upload-artifact"]["path"] == "dist/*"
    checks = (ROOT / ".ci" / "run").read_text()
    assert "tools/release.py --repository" in checks
    assert "--out dist" in checks
    assert "make docs" in checks
    artifact = by_action["actions/upload-artifact"]["name"]
    assert by_action["actions/download-artifact"]["name"] == artifact


def test_hooks_run_the_commands_of_make_lint():
    recipe = MAKEFILE.split("\nlint:")[1].split("\n\n")[0]
    linted = set(re.findall(r"\$\(BIN\)/(\S+)", recipe))
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks} == linted


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = (ROOT / "pyproject.toml").read_text()
    assert citation["version"] == pfedmoap.__version__
    assert f'\nversion = "{pfedmoap.__version__}"\n' in project
    assert f'license = "{citation["license"]}"' in project


def test_issue_forms_can_be_filled_in():
    forms = [file for file in (GITHUB / "ISSUE_TEMPLATE").iterdir() if file.stem != "config"]
    assert len(forms) >= 2
    for form in forms:
        content = yaml.safe_load(form.read_text())
        assert content["name"]
        assert content["description"]
        ids = [field["id"] for field in content["body"] if field["type"] != "markdown"]
        assert ids
        assert len(ids) == len(set(ids))
        assert all(field["attributes"]["label"] for field in content["body"])


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_help_explains_every_target(tmp_path):
    shown = subprocess.run(
        ["make", "--silent", "help", f"VENV={tmp_path / 'none'}"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [re.split(r"  +", line, maxsplit=1) for line in shown.splitlines()]
    assert {target for names, _ in lines for target in names.split()} == TARGETS
    assert all(text for _, text in lines)
