"""Tests lie where their module lies, or the map below says where; and they use public names.

`pfedmoap/server/admission.py` is tested by `tests/pfedmoap/server/test_admission.py`. What has no
test file of its name is tested where it is used: `COVERED` says in which file. That file imports
the module, or one that does, or one that leads to it within the module's own folder.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

from eval.cli import COMMANDS
from tests.helpers.places import ROOT

PACKAGES = ("pfedmoap", "privacy", "eval", "tools")
COVERED = {
    "tests/pfedmoap/client/test_privatizer.py": "pfedmoap.client.privatizer_at_server",
    "tests/pfedmoap/client/test_static_step.py": "pfedmoap.client.device_step",
    "tests/pfedmoap/client/test_local_training.py": """
        pfedmoap.client.problem pfedmoap.contract.stacking pfedmoap.models.logits""",
    "tests/pfedmoap/config/test_schema.py": "pfedmoap.config.option_hints pfedmoap.config.sampling",
    "tests/pfedmoap/config/test_schema_help.py": "pfedmoap.config.help_page",
    "tests/eval/doctor/test_machine.py": "eval.doctor.finding",
    "tests/eval/test_configurations.py": "eval.commands.configs",
    "tests/eval/test_completion.py": "eval.commands.completion pfedmoap.config.introspection",
    "tests/pfedmoap/engine/flower/test_remote.py": """
        pfedmoap.engine.flower.client_app pfedmoap.engine.flower.fleet
        pfedmoap.engine.flower.roll_call pfedmoap.engine.flower.site""",
    "tests/pfedmoap/engine/flower/test_fan_out.py": "pfedmoap.engine.flower.actor_app",
    "tests/pfedmoap/engine/flower/test_actors.py": "pfedmoap.engine.flower.ray_room",
    "tests/eval/test_actors.py": "pfedmoap.methods.made",
    "tests/eval/api/test_classifier.py": "eval.api.fitted eval.api.inputs",
    "tests/eval/deployment/test_running.py": """
        pfedmoap.engine.flower.control pfedmoap.engine.flower.links
        pfedmoap.engine.flower.places eval.deployment.app
        eval.deployment.apps""",
    "tests/eval/test_accuracy.py": "eval.pieces",
    "tests/eval/test_erasure.py": """
        eval.commands.forget eval.erasure_record pfedmoap.runs.rewrite pfedmoap.storage.signing""",
    "tests/eval/deployment/test_options.py": """
        eval.commands.serve eval.commands.join eval.commands.make_keys
        eval.commands.example_sites""",
    "tests/eval/deployment/test_host.py": """
        eval.deployment.accepted eval.deployment.example_data eval.deployment.site_options""",
    "tests/eval/deployment/test_serving.py": """
        eval.deployment.federation_file eval.deployment.status eval.commands.status
        pfedmoap.runs.amend pfedmoap.runs.extension""",
    "tests/pfedmoap/engine/flower/test_letters.py": """
        pfedmoap.engine.flower.greeting pfedmoap.wire.said""",
    "tests/pfedmoap/engine/test_round.py": """
        pfedmoap.contract.method pfedmoap.contract.tasks pfedmoap.server.cohort
        pfedmoap.wire.messages pfedmoap.wire.transport""",
    "tests/pfedmoap/server/test_aggregation.py": "pfedmoap.config.server",
    "tests/pfedmoap/server/test_bounding.py": "pfedmoap.server.robust_limits",
    "tests/pfedmoap/server/test_expert_pool.py": """
        pfedmoap.server.expert pfedmoap.server.pool_arrays""",
    "tests/privacy/test_options.py": """
        privacy.checks privacy.statements""",
    "tests/eval/benchmarks/test_all.py": """
        eval.benchmarks.classes eval.benchmarks.echoes eval.benchmarks.engine
        eval.benchmarks.evaluation eval.benchmarks.federation eval.benchmarks.images
        eval.benchmarks.pool eval.benchmarks.privacy eval.benchmarks.round eval.benchmarks.startup
        eval.benchmarks.step eval.commands.bench""",
    "tests/eval/test_faults.py": "eval.commands.faults",
    "tests/eval/test_interruption.py": "eval.commands.interruption eval.logs eval.refused",
    "tests/eval/test_data_of_run.py": "pfedmoap.data.inventory pfedmoap.data.known_data",
    "tests/eval/test_private_schedule.py": "pfedmoap.contract.privacy_options",
    "tests/privacy/test_private_rounds.py": "pfedmoap.contract.capabilities",
    "tests/pfedmoap/methods/evidence_mixture/test_method.py": """
        pfedmoap.methods.evidence_mixture.leaving""",
    "tests/pfedmoap/methods/test_inherited_privacy.py": "pfedmoap.contract.privacy_analysis",
    "tests/pfedmoap/data/test_features.py": """
        pfedmoap.data.dataset pfedmoap.data.feature_job pfedmoap.data.feature_store
        pfedmoap.seeding""",
    "tests/pfedmoap/data/test_folder.py": "pfedmoap.data.image_files",
    "tests/pfedmoap/data/test_dirichlet.py": "pfedmoap.data.splits",
    "tests/pfedmoap/data/published/test_photographs.py": """
        pfedmoap.data.published.caltech pfedmoap.data.published.catalogue
        pfedmoap.data.published.coop_splits pfedmoap.data.published.names
        pfedmoap.data.published.protocol pfedmoap.data.published.torchvision_source""",
    "tests/pfedmoap/data/published/test_coop_sets.py": "pfedmoap.data.published.layouts",
    "tests/pfedmoap/data/published/test_domain_sets.py": """
        pfedmoap.data.published.domain_trees""",
    "tests/pfedmoap/data/scenes/test_sdf.py": """
        pfedmoap.data.scenes.glyphs pfedmoap.data.scenes.shapes""",
    "tests/pfedmoap/data/scenes/test_render.py": """
        pfedmoap.data.scenes.styles pfedmoap.data.scenes.vocabulary""",
    "tests/pfedmoap/methods/fed_bbpt/test_method.py": """
        pfedmoap.methods.fed_bbpt.budget pfedmoap.methods.fed_bbpt.no_model
        pfedmoap.methods.zero_shot""",
    "tests/pfedmoap/methods/fed_bbpt/test_training.py": """
        pfedmoap.methods.fed_bbpt.prompting pfedmoap.models.blackbox.interface""",
    "tests/pfedmoap/methods/fed_bbpt/test_prompt_generator.py": """
        pfedmoap.methods.fed_bbpt.random_encoder""",
    "tests/pfedmoap/methods/test_averaged_prompt.py": """
        pfedmoap.methods.fedper pfedmoap.methods.fedprox pfedmoap.methods.local_coop
        pfedmoap.methods.promptfl pfedmoap.methods.promptfl_ft pfedmoap.prompts.initial""",
    "tests/pfedmoap/methods/test_prompt_set.py": """
        pfedmoap.methods.fedavg_pt pfedmoap.methods.fedopt_pt pfedmoap.methods.fedprox_pt
        pfedmoap.methods.gmm_pt.method pfedmoap.methods.scaffold_pt""",
    "tests/pfedmoap/methods/fedsp/test_method.py": """
        pfedmoap.methods.fedsp.problems pfedmoap.methods.fedsp.requirements
        pfedmoap.methods.fedsp.stages pfedmoap.methods.fedsp.state""",
    "tests/pfedmoap/methods/fedamp/test_method.py": "pfedmoap.methods.fedamp.cloud_prompts",
    "tests/pfedmoap/methods/fedotp/test_method.py": "pfedmoap.methods.fedotp.transport_problem",
    "tests/pfedmoap/methods/fedpgp/test_method.py": "pfedmoap.methods.fedpgp.contrast",
    "tests/pfedmoap/methods/fedsp/test_language_models.py": """
        pfedmoap.methods.fedsp.protect pfedmoap.models.language.scoring""",
    "tests/pfedmoap/methods/pfedmoap/test_method.py": """
        pfedmoap.methods.pfedmoap.downloads pfedmoap.methods.pfedmoap.local_training
        pfedmoap.methods.pfedmoap.server_state""",
    "tests/pfedmoap/data/test_tree.py": "pfedmoap.data.split_names pfedmoap.data.walk",
    "tests/pfedmoap/models/blackbox/test_in_process.py": "pfedmoap.models.blackbox.white_box",
    "tests/pfedmoap/models/blackbox/test_http_client.py": "pfedmoap.models.blackbox.wire",
    "tests/pfedmoap/models/clip/test_clip.py": """
        pfedmoap.models.clip.image_tower pfedmoap.models.clip.tiny
        pfedmoap.models.clip.tokens pfedmoap.models.fetching
        pfedmoap.models.fingerprint pfedmoap.models.loading""",
    "tests/pfedmoap/models/clip/test_shared_prefix.py": "pfedmoap.models.clip.plain_text",
    "tests/pfedmoap/models/protected/test_towers.py": """
        pfedmoap.models.clip.blocks pfedmoap.models.protected.blocks""",
    "tests/pfedmoap/models/protected/test_clip.py": """
        pfedmoap.methods.fedsp.distillation pfedmoap.models.protected.interface
        pfedmoap.models.protected.naming""",
    "tests/pfedmoap/models/protected/test_language_model.py": """
        pfedmoap.models.protected.language_skeleton""",
    "tests/pfedmoap/models/language/test_model.py": """
        pfedmoap.data.questions.encoding pfedmoap.models.language.loading
        pfedmoap.models.language.question""",
    "tests/pfedmoap/models/clip/test_embedded.py": """
        pfedmoap.pretraining.evaluation pfedmoap.pretraining.headroom""",
    "tests/pfedmoap/pretraining/test_training.py": """
        pfedmoap.pretraining.batches pfedmoap.pretraining.files pfedmoap.pretraining.losses
        pfedmoap.pretraining.optimiser""",
    "tests/pfedmoap/prompts/test_encoder.py": "pfedmoap.models.clip.compiled",
    "tests/pfedmoap/prompts/test_set_tuning.py": """
        pfedmoap.prompts.set_elements pfedmoap.prompts.tuning""",
    "tests/pfedmoap/server/test_pool_search.py": "pfedmoap.server.sketch_index",
    "tests/pfedmoap/runs/test_shard_writer.py": """
        pfedmoap.runs.client_states pfedmoap.runs.shard pfedmoap.runs.state_content""",
    "tests/pfedmoap/runs/test_directory.py": """
        pfedmoap.runs.folder pfedmoap.runs.layout
        pfedmoap.runs.log pfedmoap.runs.manifest pfedmoap.runs.state_files
        pfedmoap.storage.strict_json""",
    "tests/pfedmoap/serving/test_listener.py": """
        pfedmoap.serving.application pfedmoap.serving.bodies pfedmoap.serving.connections
        pfedmoap.serving.gate pfedmoap.serving.handshakes pfedmoap.serving.limits
        pfedmoap.serving.openapi pfedmoap.serving.refusals pfedmoap.serving.service
        pfedmoap.serving.workplace""",
    "tests/eval/test_classifier_service.py": "eval.commands.serve_model eval.serving_options",
    "tests/eval/test_exporting.py": """
        eval.commands.export eval.model_card eval.model_privacy pfedmoap.models.licences""",
    "tests/pfedmoap/exported/test_folder.py": """
        pfedmoap.exported.model pfedmoap.exported.record pfedmoap.models.clip.architecture""",
    "tests/pfedmoap/exported/test_heads.py": """
        pfedmoap.contract.folding pfedmoap.exported.expert_heads pfedmoap.exported.head
        pfedmoap.exported.prompt_heads pfedmoap.exported.set_heads
        pfedmoap.methods.pfedmoap.folded_gate""",
    "tests/pfedmoap/storage/test_locks.py": "pfedmoap.storage.space",
    "tests/privacy/ledgers/test_ledger.py": "privacy.ledgers.authorisation",
    "tests/privacy/ledgers/test_composition.py": "privacy.ledgers.ledger_file",
    "tests/privacy/accounting/test_epsilon.py": "privacy.accounting.cross_checks",
    "tests/privacy/auditing/test_audit.py": """
        privacy.auditing.audit_table privacy.auditing.bounds privacy.auditing.broken
        privacy.auditing.canaries privacy.auditing.membership privacy.auditing.sensitivity
        privacy.auditing.trials privacy.auditing.wiretap""",
    "tests/privacy/test_noise_checks.py": """
        privacy.auditing.noise_rows privacy.auditing.seed_search""",
    "tests/privacy/auditing/test_f_dp.py": "privacy.accounting.pld privacy.auditing.trade_off",
    "tests/privacy/mechanisms/test_clipping.py": """
        privacy.mechanisms.adaptive_clipping privacy.mechanisms.tally""",
    "tests/eval/attacks/test_catalogue.py": "eval.attacks.attack eval.attacks.sybil",
    "tests/eval/attacks/test_cells.py": """
        eval.attacks.compromised eval.attacks.outcome eval.attacks.reported eval.attacks.trigger""",
    "tests/eval/commands/test_attack.py": """
        eval.attacks.rows eval.attacks.running eval.attacks.tables eval.marked
        eval.report.attack_part""",
    "tests/eval/test_escaping.py": "eval.console",
    "tests/eval/sweep/test_running.py": "eval.sweep.record eval.sweep.work",
    "tests/eval/sweep/test_spec.py": "eval.sweep.options",
    "tests/eval/tracking/test_choose.py": "eval.api.trackers",
    "tests/eval/tracking/test_tracker.py": """
        eval.tracking.pictures eval.tracking.public eval.tracking.to_csv eval.tracking.to_mlflow
        eval.tracking.to_tensorboard eval.tracking.to_wandb""",
    "tests/eval/leakage/test_membership.py": "eval.leakage.label_sets eval.leakage.observed",
    "tests/eval/commands/test_leakage.py": "eval.leakage.figures eval.leakage.plan",
    "tests/eval/commands/test_audit.py": """
        eval.audit_record eval.auditing eval.choices eval.report.audit_part""",
    "tests/test_commands.py": """
        eval.client_csv eval.commands.demo eval.commands.errors eval.commands.evaluate
        eval.commands.predict eval.commands.train pfedmoap.inference""",
    "tests/eval/contract/test_suite.py": """
        eval.commands.check_method eval.contract.averages eval.contract.behaviour
        eval.contract.determinism eval.contract.federation eval.contract.folding
        eval.contract.leaving
        eval.contract.requirements pfedmoap.errors""",
    "tests/eval/test_private_part.py": "eval.commands.compare",
    "tests/eval/test_ledgers.py": "eval.commands.ledger",
    "tests/eval/published/test_reproduction.py": """
        eval.commands.reproduce eval.published.agreement eval.published.figures
        eval.published.plan""",
    "tests/eval/comparison/test_cells.py": """
        eval.comparison.csv_tables eval.comparison.summary eval.comparison.tables
        eval.experiment eval.running eval.planning eval.results""",
    "tests/eval/officer/test_seal.py": """
        eval.commands.privacy eval.officer.document eval.officer.facts eval.officer.page
        eval.officer.wording""",
    "tests/eval/officer/test_plan.py": "eval.officer.noised",
    "tests/eval/report/test_build.py": """
        eval.commands.report eval.report.budgets eval.report.clients
        eval.report.comparison_section eval.report.curves eval.report.distribution
        eval.report.expert_plots eval.report.labels eval.report.page
        eval.report.privacy_section eval.report.prompt_map eval.report.raster
        eval.report.reliability eval.report.run_data eval.report.run_section eval.report.style""",
    "tests/eval/report/test_contenders.py": """
        eval.report.method_curves eval.report.standings eval.report.trade_offs""",
    "tests/eval/report/test_in_browser.py": "eval.report.structure",
}
STARTED = {
    "tests/eval/test_cli.py": """
        eval.commands.evaluate_backbone eval.commands.pretrain_backbone eval.commands.repair
        eval.commands.survey_backbones""",
    "tests/pfedmoap/models/blackbox/test_server.py": "eval.commands.serve_clip",
}
"""Commands that a test starts by name, without importing their module."""


def modules() -> list[str]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in files
        if not file.name.startswith("__")
    ]


def file_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def mirror(module: str) -> Path:
    file = file_of(module).relative_to(ROOT)
    return ROOT / "tests" / file.parent / f"test_{file.name}"


@cache
def imports(file: Path) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def listed(groups: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of test file and module."""
    return [(test, module) for test, names in groups.items() for module in names.split()]


def test_every_module_has_a_test_of_its_name_or_an_entry():
    entries = [module for _, module in listed(COVERED) + listed(STARTED)]
    assert len(entries) == len(set(entries))
    without = {module for module in modules() if not mirror(module).exists()}
    assert without - set(entries) == set(), "give these a test file of their name, or an entry"
    assert set(entries) - without == set(), "these have a test file of their name, or are gone"


@pytest.mark.parametrize("test", COVERED)
def test_an_entry_names_a_test_that_reaches_the_module(test):
    assert [module for module in COVERED[test].split() if module not in reached(test, module)] == []


def reached(test: str, module: str) -> set[str]:
    """What a test imports, what that imports, and so on within the module's folder."""
    found = {name for name in imports(ROOT / test) if file_of(name).exists()}
    ahead = [name for first in found for name in imports(file_of(first))]
    while ahead:
        name = ahead.pop()
        if name in found or not file_of(name).exists():
            continue
        found.add(name)
        if name.rpartition(".")[0] == module.rpartition(".")[0]:
            ahead += imports(file_of(name))
    return found


@pytest.mark.parametrize(("test", "module"), listed(STARTED))
def test_a_started_command_is_named_in_its_test(test, module):
    name = module.rsplit(".", 1)[1]
    text = (ROOT / test).read_text()
    each = "sorted(COMMANDS)" in text and name.replace("_", "-") in COMMANDS
    assert each or name in text


STAND_INS = ("tests/helpers/elsewhere.py", "tests/helpers/recorded_steps.py")
"""What stands in for a GPU takes torch's operators apart; some have private names alone."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def behind_public_names(tree: ast.AST) -> list[str]:
    """Private names that a file takes from elsewhere; a test's own class may have its own."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if private(alias.name)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            named = (a.value for a in node.args if isinstance(a, ast.Constant))
            texts = [value for value in named if isinstance(value, str)]
            found += [text for text in texts if any(private(part) for part in text.split("."))]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("__dict__"):
            found += [ast.unparse(node)] if private(ast.unparse(node.slice).strip("'")) else []
    return found


@pytest.mark.parametrize(
    "code",
    [
        "clip._model",
        "from pfedmoap.models.clip import _shared",
        "monkeypatch.setattr(own_files, '_BY_HANDLE', True)",
        "monkeypatch.setattr('eval.console._width', 80)",
        "getattr(loader, '_kept')",
        "method.__dict__['_estimator'] = spy",
    ],
)
def test_a_look_behind_a_public_name_is_found(code):
    assert behind_public_names(ast.parse(code))
    assert not behind_public_names(ast.parse(code.replace("_", "")))


def test_tests_use_public_names_and_no_other_test():
    for file in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(file.read_text())
        if file.relative_to(ROOT).as_posix() not in STAND_INS:
            assert not behind_public_names(tree), file
        others = {name for name in imports(file) if name.startswith("tests.")}
        assert not {name for name in others if not name.startswith("tests.helpers")}, file


def test_one_helper_says_where_the_repository_is():
    """Counting a file's parents goes wrong when the file moves."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        names = {
            node.id for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Name)
        }
        assert file.name == "test_features.py" or "__file__" not in names, file
