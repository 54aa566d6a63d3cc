"""An officer's statement says what a run spent, with its audit, and a tampered run fails it."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from eval.commands import audit
from eval.commands.privacy import main
from eval.ledgers import read_statements
from eval.officer.document import divided, with_seal
from eval.officer.facts import read_facts
from eval.officer.seal import hashes_of, sealed_statement, verify
from eval.officer.wording import statement
from pfedmoap.errors import RunError
from pfedmoap.storage.atomic_files import json_bytes
from pfedmoap.storage.digests import sha256
from pfedmoap.storage.signing import Signer
from privacy.ledgers.ledger_file import file_of, read_folder, write_accounts
from tests.helpers.pages import check_page

AUDIT = "--audit_clients 1 --audit_rounds 1 --canaries 2 --gradient_canaries 4 --members 2"


@pytest.fixture(scope="module")
def audited(private_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with an audit of its own; so few canaries may miss what is broken."""
    run = tmp_path_factory.mktemp("audited") / "run"
    shutil.copytree(private_run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "audit_page", lambda *_: "")
        try:
            audit.main([str(run), *AUDIT.split()])
        except SystemExit as ended:
            assert ended.code == 2  # noqa: PT017  # the audit may fail; the statement has to say so
    return run


@pytest.fixture
def run(audited: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(audited, tmp_path / "run")
    return tmp_path / "run"


def test_the_statement_has_what_was_spent_and_the_audit(audited: Path, tmp_path: Path):
    out = tmp_path / "statement.md"
    main(["statement", str(audited), "--out", str(out)])
    text, seal = divided(out.read_bytes())
    for one in read_statements(audited / "ledgers"):
        rounds = len({charge.round for charge in one.accounts[0].charges})
        [row] = [line for line in text.splitlines() if line.startswith(f"| {one.client} |")]
        _, _, told, spent, together, delta, budget, _ = (cell.strip() for cell in row.split("|"))
        assert told == str(rounds)
        assert float(spent) == float(together) == pytest.approx(one.total, rel=1e-3)
        assert float(spent) >= one.total  # an epsilon is never rounded down
        assert (delta, budget) == ("0.001", "8")
    record = json.loads((audited / "private/audit.json").read_text())
    outcome = "passed" if record["passed"] else "FAILED"
    assert f"The audit of this run's options {outcome}" in text
    assert all(f"| {verdict['name']} |" in text for verdict in record["verdicts"])
    for words in (
        "Protected is one training example of one client",
        "add or remove one example",
        "AES-256 in counter mode",
        "- accuracy figures and all other results of evaluation",
        "opacus",
    ):
        assert words in text
    assert set(seal["files"]) >= {"config.json", "privacy.json", "private/audit.json"}
    assert not any("clients/" in name or "per_client" in name for name in seal["files"])


def test_the_page_to_print_says_what_the_document_says(audited: Path, tmp_path: Path):
    document, page = tmp_path / "statement.md", tmp_path / "statement.html"
    main(["statement", str(audited), "--out", str(document), "--html", str(page)])
    html = page.read_text()
    check_page(html)
    shown = unescape(re.sub("<[^>]*>", "", html))
    for chapter in statement(read_facts(audited)):
        assert f"<h2>{chapter.title}</h2>" in html
        for words in (*chapter.paragraphs, *chapter.points):
            assert words.replace("`", "") in shown
    _, seal = divided(document.read_bytes())
    for told in (seal["run_sha256"], seal["text_sha256"], *seal["files"].values(), seal["at"]):
        assert told in html
    with pytest.raises(RunError, match="no statement"):
        verify(page.read_bytes(), audited, None)
    page.write_text("<p>mine")
    with pytest.raises(SystemExit):
        main(["statement", str(audited), "--html", str(page)])
    assert page.read_text() == "<p>mine"


def test_what_is_spent_in_all_is_the_largest_and_its_sum_at_several_clients(private_run: Path):
    facts = read_facts(private_run)
    [budget] = [one for one in statement(facts) if one.title == "What was spent"]
    assert f"that of client {facts.largest.client}" in budget.paragraphs[0]
    told = float(budget.paragraphs[1].split("epsilon ")[-1].split(" ")[0])
    assert told == pytest.approx(sum(one.together for one in facts.spent), rel=1e-3)
    assert len({one.rounds for one in facts.spent}) > 1
    [audit] = [one for one in statement(facts) if one.title == "Audit"]
    assert "No audit of this run is at hand" in audit.paragraphs[0]


def test_a_statement_holds_for_its_run_by_the_command(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, key = tmp_path / "statement.md", tmp_path / "officer.key"
    main(["statement", str(audited), "--out", str(out), "--key", str(key)])
    main(["verify", str(out), str(audited), "--public_key", Signer.kept_in(key).public])
    assert f"holds for {audited}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(out), str(audited), "--public_key", "00" * 32])
    assert ended.value.code == 2
    assert "is asked for" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(["config.json", "metrics.jsonl", "ledger", "server"]))
def test_a_run_that_was_tampered_with_fails(run: Path, name: str):
    document = sealed_statement(run, None).encode()
    assert not verify(document, run, None).faults
    places = {"ledger": "ledgers/*.json", "server": "server/*"}
    file = min(run.glob(places.get(name, name)))
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"epsilon": ', b'"epsilon":  ', 1) + b"\n")
    [fault, *_] = verify(document, run, None).faults
    assert "has changed since" in fault or "cannot be read" in fault


def test_a_ledger_that_is_gone_or_new_fails(run: Path):
    document = sealed_statement(run, None).encode()
    ledgers = sorted((run / "ledgers").glob("*.json"))
    content = ledgers[0].read_bytes()
    ledgers[0].unlink()
    assert any("is missing" in fault for fault in verify(document, run, None).faults)
    ledgers[0].write_bytes(content)
    (run / "ledgers/0007.json").write_bytes(content.replace(b'"client": 0', b'"client": 7'))
    assert verify(document, run, None).faults


def test_runs_that_charged_the_ledgers_later_are_told_of_and_are_no_fault(run: Path):
    document = sealed_statement(run, None).encode()
    ledgers = read_folder(run / "ledgers")
    for client, accounts in ledgers.items():
        later = replace(accounts[0], run="b" * 32)
        write_accounts(file_of(run / "ledgers", client), client, (*accounts, later))
    verdict = verify(document, run, None)
    assert not verdict.faults
    assert any(f"charged {len(ledgers)} of its ledgers since" in one for one in verdict.remarks)
    assert read_facts(run).largest.together > read_facts(run).largest.epsilon
    charged = replace(accounts[0], charges=accounts[0].charges[:-1])
    write_accounts(file_of(run / "ledgers", client), client, (charged, later))
    [fault] = verify(document, run, None).faults
    assert fault == f"ledgers/{client:04d}.json has changed since"


def test_another_text_fails_also_where_it_is_sealed_anew(run: Path):
    signer = Signer.kept_in(run.parent / "officer.key")
    text, seal = divided(sealed_statement(run, signer).encode())
    better = text.replace("| 8 |", "| 1 |")
    [fault] = verify(with_seal(better, seal).encode(), run, None).faults
    assert "text is not the one" in fault
    for forged in (
        seal | {"text_sha256": sha256(better.encode()), "signature": None, "key": None},
        seal | {"text_sha256": sha256(better.encode()), "written_by": "0.0.9"},
    ):
        assert verify(with_seal(better, forged).encode(), run, signer.public).faults
        unsigned = {name: value for name, value in forged.items() if name != "signature"}
        other = Signer.kept_in(run.parent / "other.key")
        for again in (
            unsigned | {"signature": None},
            {**unsigned, "key": other.public, "signature": None},
        ):
            if again["key"] == other.public:
                del again["signature"]
                again["signature"] = other.sign(json_bytes(again))
            [fault] = verify(with_seal(better, again).encode(), run, None).faults
            assert "to trust its signature instead" in fault


def test_a_signed_statement_holds_for_the_public_part_alone(run: Path):
    signer = Signer.kept_in(run.parent / "officer.key")
    signed, plain = sealed_statement(run, signer).encode(), sealed_statement(run, None).encode()
    shutil.rmtree(run / "private")
    found = verify(signed, run, signer.public)
    assert not found.faults
    assert any("private/audit.json was not checked" in remark for remark in found.remarks)
    assert verify(plain, run, None).faults


def test_what_is_no_statement_or_no_private_run_is_refused(
    finished_run: Path, private_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(RunError, match="promises no privacy"):
        sealed_statement(finished_run, None)
    with pytest.raises(RunError, match="no statement"):
        verify(b"# Something else", private_run, None)
    mine = tmp_path / "mine.md"
    mine.write_text("mine")
    with pytest.raises(SystemExit):
        main(["statement", str(private_run), "--out", str(mine)])
    assert "is not a statement of privacy" in capsys.readouterr().err
    assert mine.read_text() == "mine"


def test_a_federations_server_states_what_its_sites_reported(run: Path):
    """Their ledgers are with them: the server has the figures of its metrics alone."""
    [before] = [one.table for one in statement(read_facts(run)) if one.title == "What was spent"]
    shutil.rmtree(run / "ledgers")
    facts = read_facts(run)
    [budget] = [one for one in statement(facts) if one.title == "What was spent"]
    assert facts.reported
    assert any("what the sites reported" in paragraph for paragraph in budget.paragraphs)
    assert before is not None
    assert budget.table is not None
    assert [row[2] for row in budget.table.rows] == [row[2] for row in before.rows]


def test_only_what_is_public_is_hashed(audited: Path):
    """A hash of something that can be guessed, such as counts of images, would tell what it is."""
    private = {name for name in hashes_of(audited) if name.startswith("private/")}
    assert private == {"private/audit.json"}
