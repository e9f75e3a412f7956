"""Progress where standard error is no terminal."""

from enhancement import progress
from enhancement.progress import ProgressBar


def test_without_a_terminal_progress_is_whole_lines_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "FIRST", 0.0)
    with ProgressBar(total=4, desc="epoch 1/2", unit="image") as bar:
        for _ in range(4):
            bar.set_postfix_str("loss 0.500", refresh=False)
            bar.update()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/2: 1 of 4 images, 00:00 so far") and line.endswith("loss 0.500")
    assert "left" not in line  # the first step tells nothing of the others
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with ProgressBar(total=9) as bar:
        for _ in range(9):
            bar.update()
    assert "00:00 left" in capsys.readouterr().err.splitlines()[-1]
    with ProgressBar(total=4, disable=True) as bar:
        bar.update()
    monkeypatch.setattr(progress, "FIRST", 60.0)
    with ProgressBar(total=4) as bar:
        bar.update(4)
    assert not capsys.readouterr().err, "short work needs no line"
