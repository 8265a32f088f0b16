"""The notebooks run from their first cell to their last, find what is there, and lie in git without outputs."""

import json

import pytest

from tests.scripts import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def executed(name, settings, wanted):
    """Run a notebook with other settings in its cell of parameters; return what an expression is at its end."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    cell.source += f"\n{settings}"
    notebook.cells.append(nbformat.v4.new_code_cell(f"print(json.dumps({wanted}))"))
    nbclient.NotebookClient(notebook, timeout=250, resources={"metadata": {"path": ROOT / "notebooks"}}).execute()
    return json.loads(notebook.cells[-1].outputs[0].text), notebook


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """The kernel is a process of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_your_own_pair(tmp_path):
    pytest.importorskip("rasterio")
    wanted = (
        "{'iou': float((changed & (label > 0)).sum() / (changed | (label > 0)).sum()), 'polygons': "
        "[p['properties'] for p in polygons], 'changed': int(changed.sum())}"
    )
    found, notebook = executed("your_own_pair", f"output = {str(tmp_path)!r}", wanted)
    assert found["iou"] > 0.4
    assert len(found["polygons"]) >= 2
    pixels = sum(each["pixels"] for each in found["polygons"])
    assert 0.9 * found["changed"] < pixels <= found["changed"]  # regions below 20 pixels are left out
    assert sum(each["area_m2"] for each in found["polygons"]) == pytest.approx(pixels / 4, rel=0.01)
    assert (tmp_path / "picture.png").stat().st_size > 50_000
    assert "so the map may be wrong" not in json.dumps(notebook)  # no hint on drawn scenes


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_tiles(tmp_path):
    settings = f"tiles, size, steps, output = 10, 128, 8, {str(tmp_path)!r}"
    settings += "\nmore = ['--num-workers', 0, '--epochs', 1, '--batch-size', 2]"
    wanted = "{'before': before_training, 'after': after_training, 'label': sorted(drawn.getcolors())}"
    found, _ = executed("fifty_tiles", settings, wanted)
    assert found["label"] == [[600, 0], [600, 255]]
    assert found["before"]["f1"] > 0.4
    assert found["after"]["f1"] > 0.4
    assert found["before"] != found["after"]
    for path in ("check/samples.png", "run/best.pt", "fine-tuned/report.html"):
        assert (tmp_path / path).is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_stay_out_of_git(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert 4 <= len(code) <= 8
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []
    assert "Your own files" in "".join(content["cells"][0]["source"])
