"""Which commands a warm process takes over from the shell, and which not."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.azureml.forge import Forge, ForgedProcess, python_call


@pytest.mark.parametrize(
    ("command", "folder", "variables", "arguments"),
    [
        ("python a.py x 'y z'", ".", {}, ["a.py", "x", "y z"]),
        ("python3 -u -m fl_kit.step --a=1", ".", {}, ["-m", "fl_kit.step", "--a=1"]),
        ("python a.py \\\n  --b 2\n", ".", {}, ["a.py", "--b", "2"]),
        ('cd bundle && A=1 B= python -m m "x y"', "bundle", {"A": "1", "B": ""}, ["-m", "m", "x y"]),
    ],
)
def test_a_plain_call_of_python_is_taken_over(command, folder, variables, arguments):
    call = python_call(command)
    assert call is not None
    assert (call.folder, call.variables, list(call.arguments)) == (folder, variables, arguments)


def test_more_of_a_path_is_taken_over_where_it_is_put_before_what_there_is():
    call = python_call("cd bundle && PYTHONPATH=$PWD/kit.zip:$PWD/b/c:$PYTHONPATH A=1 python -m kit.step --a")
    assert call is not None
    assert (call.folder, call.path, call.variables) == ("bundle", ("kit.zip", "b/c"), {"A": "1"})
    assert python_call("python -m kit.step").path == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "command",
    [
        "echo hello",
        "python",
        "python -m",
        "python -c 'print(1)'",
        "python -X dev a.py",
        "python a.py > out",
        "python a.py; rm x",
        "python a.py && python b.py",
        "python a.py\npython b.py",
        "python a.py $HOME",
        "python a.py `date`",
        "python *.py",
        "python a.py 'unclosed",
        "cd a && cd b && python a.py",
        "A=$(date) python a.py",
        "A=$PWD/x:$A python a.py",
        "PYTHONPATH=$PWD/x python a.py",
        "PYTHONPATH=$HOME/x:$PYTHONPATH python a.py",
        "PYTHONPATH=$PWD/$x:$PYTHONPATH python a.py",
        "pythonic a.py",
        "",
    ],
)
def test_anything_else_is_left_to_the_shell(command):
    assert python_call(command) is None


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1)))
def test_a_call_that_is_taken_over_has_the_words_that_a_shell_would_give(words):
    call = python_call(f"python a.py {shlex.join(words)}")
    assert call is None or list(call.arguments) == ["a.py", *words]


def test_variables_that_are_read_at_import_need_a_cold_start():
    forge = Forge({"OMP_NUM_THREADS": "1", "PATH": "/bin"}, ())
    assert forge.warm_for({"OMP_NUM_THREADS": "1", "PATH": "/usr/bin", "ANY": "x", "PYTHONDONTWRITEBYTECODE": "1"})
    assert not forge.warm_for({"OMP_NUM_THREADS": "2"})
    assert not forge.warm_for({"PYTHONHASHSEED": "0"})
    assert not forge.warm_for({"LD_PRELOAD": "x.so"})


def test_a_process_that_leads_no_group_yet_is_killed_again_until_it_has_ended(monkeypatch):
    """A process is forked, said to have begun, and only then leads its group: a kill in between hits nobody."""
    process, kills = ForgedProcess(), []

    def kill(leader: int) -> None:
        kills.append(leader)
        if len(kills) == 2:
            process.ended.set(-9)

    monkeypatch.setattr("sim.azureml.forge.kill_group", kill)
    process.began(7)
    process.kill()
    assert kills == [7, 7]
