"""The tutorials and notebooks, run as they stand: their commands one after another, in a folder."""

import json
import re
import shlex
from pathlib import Path

import open_clip
import pytest
from safetensors.torch import save_file

from eval.cli import main
from tests.helpers.miniatures import photograph
from tests.helpers.places import ROOT

DOCS = ROOT / "docs"
TUTORIALS = sorted(page.stem for page in (DOCS / "tutorials").glob("*.md") if page.stem != "README")
NOTEBOOKS = sorted(page.stem for page in (DOCS / "notebooks").glob("*.ipynb"))


def write_photographs(folder: Path) -> None:
    """What the pages call the reader's own: a table, two sites, two classes, two persons each."""
    rows = ["image,label,site,group"]
    for site in ("north", "south"):
        for number in range(12):
            image = f"{site}/{number + 1:04}.jpg"
            photograph(folder / image, len(site), number)
            rows.append(f"{image},{('cat', 'dog')[number % 2]},{site},{site}-{number // 3}")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")


def write_clip(folder: Path) -> None:
    """A model as the page's download leaves it, but small and of random weights."""
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16}
    text = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    config = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # of the feature cache
    write_photographs(tmp_path / "photographs")
    write_clip(tmp_path / "clip")
    return tmp_path


def follow(name: str, folder: Path, *, slow: bool) -> None:
    """Do what a page says, block by block; what is marked as slow only where asked to."""
    text = (DOCS / "tutorials" / f"{name}.md").read_text()
    for file, content in re.findall(r"with `([\w.]+)`.*?```yaml\n(.*?)```", text, re.DOTALL):
        (folder / file).write_text(content)
    blocks = re.findall(r"(<!-- slow -->\n)?```(bash|python)\n(.*?)```", text, re.DOTALL)
    assert [language for _, language, _ in blocks].count("bash") > 1
    for marked, language, block in blocks:
        if language == "python":
            exec(block, {})
        elif slow or not marked:
            for line in block.replace("\\\n", "").strip().splitlines():
                program, *words = shlex.split(line)
                assert program == "pfedmoap"
                if words[0] == "doctor":  # ours has random weights, and is found out
                    with pytest.raises(SystemExit):
                        main(words)
                else:
                    main(words)


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_as_it_stands(name, folder):
    follow(name, folder, slow=False)


@pytest.mark.deployment
def test_the_officers_page_with_its_attack(folder):
    follow("privacy-officer", folder, slow=True)
    statement = (folder / "statement.md").read_text()
    assert "The audit of this run's options" in statement
    assert "FAILED" not in statement


def test_all_tutorials_are_listed():
    index = (DOCS / "tutorials" / "README.md").read_text()
    assert not [name for name in TUTORIALS if f"({name}.md)" not in index]
    assert not [name for name in NOTEBOOKS if f"({'../notebooks/' + name}.ipynb)" not in index]
    assert len(TUTORIALS) > 3
    assert len(NOTEBOOKS) > 1


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", 4)
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    now = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert [bool(outputs) for outputs in shown] == [
        bool([output for output in outputs if output.get("name") != "stderr"]) for outputs in now
    ]


def test_no_notebook_shows_a_machine_of_ours():
    for name in NOTEBOOKS:
        text = (DOCS / "notebooks" / f"{name}.ipynb").read_text()
        assert not re.findall(r"/(?:home|root|work|tmp)/", text)
