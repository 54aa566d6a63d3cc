"""A run's statement of privacy in words, for Markdown and for the report's page alike."""

from eval.officer.facts import Facts, Record, Spending
from eval.report.structure import Chapter, Table


def statement(facts: Facts) -> list[Chapter]:
    """Say what a run promises, what was spent of it, and what it does not cover."""
    return [
        _promise(facts),
        _budget(facts),
        _noise(facts),
        Chapter("What is not covered", ["The promise says nothing about:"], _not_covered(facts)),
        _audit(facts.audit),
        _software(facts.guarantee),
    ]


def _promise(facts: Facts) -> Chapter:
    told = facts.guarantee
    delta = float(facts.mechanism["delta"])
    text = [f"THIS RUN IS NOT PRIVATE: {caveat}." for caveat in told.get("caveats", ())]
    text += [
        f"The method {facts.method} was trained on {facts.data} with differential privacy "
        f"({facts.mechanism['name']}), for {facts.round} of {facts.rounds} rounds.",
        f"Protected is {told['unit']}. Neighbouring data sets: {told['neighbours']}.",
        f"Private is {told['private']}.",
        "For any two neighbouring data sets and anything that can be seen of what is private, its "
        f"probability under one is at most e^epsilon times that under the other, plus {delta:g}, "
        f"with epsilon never above the budget of {float(told['epsilon_budget']):g}. What was "
        "really spent follows.",
    ]
    if "trusted" in told:
        text.append(f"Trusted is {told['trusted']}.")
    return Chapter("What is promised", text)


def _budget(facts: Facts) -> Chapter:
    most, everybody = facts.largest, len(facts.spent) == 1 and facts.spent[0].client < 0
    shared = max(one.runs for one in facts.spent)
    whose = (
        "All clients share one account" if everybody else f"{len(facts.spent)} clients took part"
    )
    text = [
        f"{whose}. In all, the guarantee is epsilon {_up(most.together)} at delta {most.delta:g}"
        + ("." if everybody else f", that of client {most.client}, which has spent most.")
    ]
    if not everybody:
        total = sum(one.together for one in facts.spent)
        text.append(
            "Clients hold different data, so that their budgets do not add up for what is "
            "protected at one of them. Who has data at several clients adds up theirs: at all of "
            f"them, epsilon {_up(total)} and delta {sum(one.delta for one in facts.spent):.3g}."
        )
    if shared > 1:
        text.append(
            f"The ledgers are shared by up to {shared} runs on the same people; 'all runs' counts "
            "them all, and 'in all' above is theirs."
        )
    if facts.reported:
        text.append("The figures are what the sites reported: their ledgers are with them.")
    if facts.sat_out:
        text.append(f"{facts.sat_out} times a client sat out because its budget was spent.")
    headings = ("client", "rounds", "epsilon of this run", "epsilon of all runs", "delta", "budget")
    return Chapter("What was spent", text, table=Table(headings, [_row(o) for o in facts.spent]))


def _row(one: Spending) -> tuple[str, ...]:
    return (
        "all" if one.client < 0 else str(one.client),
        "-" if one.rounds is None else str(one.rounds),
        _up(one.epsilon),
        _up(one.together),
        f"{one.delta:g}",
        f"{one.budget:g}",
    )


def _noise(facts: Facts) -> Chapter:
    told, mechanism = facts.guarantee, facts.mechanism
    made = told.get("noise_made", "the run is of a version that did not write down how")
    text = [
        f"The noise was planned for {told['rounds_planned']} rounds of a client, because "
        f"{told['rounds_planned_because']}; all of them would come to epsilon "
        f"{_up(float(told['epsilon_planned']))}.",
        f"Where it comes from: {made}.",
    ]
    rows = [(name.replace("_", " "), _plain(value)) for name, value in sorted(mechanism.items())]
    if "steps_per_round" in told:
        rows.append(("steps per round", _plain(told["steps_per_round"])))
    return Chapter("How the noise is made", text, table=Table(("quantity", "value"), rows))


def _not_covered(facts: Facts) -> list[str]:
    found = [str(one) for one in facts.guarantee["not_covered"]]
    if facts.audit is not None:
        found.append("the audit below, which trained on clients' examples to test the promise")
    return found


def _audit(audit: Record | None) -> Chapter:
    title = "Audit"
    if audit is None:
        return Chapter(
            title,
            [
                "No audit of this run is at hand: `pfedmoap audit RUN` makes one, and a statement "
                "that is made after it has its result."
            ],
        )
    claim, rounds = audit["claim"], audit["rounds"]
    outcome = (
        "passed: no sound mechanism was refuted, and every mechanism that was broken on purpose "
        "was found out"
        if audit["passed"]
        else f"FAILED for: {', '.join(audit['failed_for'])}"
    )
    text = [
        f"The audit of this run's options {outcome}. It attacked the claim of epsilon "
        f"{claim['epsilon']:g} at delta {claim['delta']:g} with canaries at {audit['clients']} "
        f"client(s) over {rounds['audited']} of {rounds['planned']} planned rounds, at "
        f"{100 * audit['confidence']:g} % confidence.",
        "A bound below the claim does not prove the claim: it says that this attack did not "
        "refute it.",
    ]
    if (why := audit["data"]["stand_in_because"]) is not None:
        text.append(f"It ran on {audit['data']['name']}, because {why}.")
    rows = [
        (
            str(verdict["name"]),
            "yes" if verdict["sound"] else "no, broken on purpose",
            "none" if (claimed := verdict["claimed_epsilon"]) is None else f"{claimed:.3g}",
            f"{max((b['epsilon'] for v in verdict['views'] for b in v['bounds']), default=0):.2f}",
            "yes" if verdict["flagged"] else "no",
        )
        for verdict in audit["verdicts"]
    ]
    headings = (
        "mechanism",
        "meant to be private",
        "claimed epsilon",
        "largest lower bound",
        "refuted",
    )
    return Chapter(title, text, table=Table(headings, rows))


def _software(guarantee: Record) -> Chapter:
    versions = guarantee.get("versions")
    if not versions:
        return Chapter("Software", ["The run is of a version that did not write its own down."])
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Chapter("Software", [f"The noise was made and accounted for by {named}."])


def _plain(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else "none" if value is None else str(value)


def _up(epsilon: float) -> str:
    """Four digits that are never below the value: an epsilon is not rounded down."""
    short = f"{epsilon:.4g}"
    return short if float(short) >= epsilon else f"{epsilon * 1.0005:.4g}"
