"""What a progress bar counts, and in which unit."""

import io

from rich.console import Console

from eval.console import progress_bar, terminal_progress


def rendered(unit: str | None) -> str:
    progress = terminal_progress(unit)
    progress.add_task("work", total=3, completed=1)
    text = io.StringIO()
    Console(file=text, width=120).print(progress.get_renderable())
    return text.getvalue()


def test_the_unit_stands_behind_the_count_where_there_is_one():
    assert "1/3 rounds" in rendered("round")
    assert "1/3" in rendered(None)
    assert "rounds" not in rendered(None)


def test_a_hidden_bar_moves_and_writes_nothing(capsys):
    with progress_bar("work", shown=False) as advance:
        advance(1, 2)
    assert capsys.readouterr() == ("", "")
