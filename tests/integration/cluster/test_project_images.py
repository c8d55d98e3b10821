"""The project's images run in the test cluster as an unprivileged user with a read-only root."""

import json
from importlib.metadata import version

import pytest
from tests.integration.cluster.objects import Json, namespace, pod
from tests.integration.cluster.waiting import eventually
from tests.testcluster.cluster_api import ClusterApi, apply, kubectl
from tests.testcluster.errors import EXIT_UNSUPPORTED
from tests.testcluster.fixture import command
from tests.testcluster.layout import LocalCluster
from tests.testcluster.project_images import reference

# The first build fetches Debian's and Python's packages.
pytestmark = [pytest.mark.cluster, pytest.mark.images, pytest.mark.timeout(2400)]
NAMESPACE = "images"
# The modules that an image runs, and packages that it must not contain.
IMAGES = {
    "control-plane": (["windlass_api.cluster", "windlass.db.migrate"], ["kfp", "pip", "pyarrow", "ray", "torch"]),
    "operators": (["windlass_operators.main"], ["fastapi", "kfp", "pip", "pyarrow", "ray", "sqlalchemy", "torch"]),
    "pipelines": (["windlass_pipelines.run", "windlass_pipelines.data.processing"], ["fastapi", "pip", "ray", "torch"]),
    "ray": (
        ["windlass_pipelines.train.driver", "windlass_pipelines.serve.replica"],
        ["kfp", "pip", "triton"],
    ),
}
PROGRAM = """
import importlib, importlib.metadata, importlib.util, json, os, shutil, socket, sys
modules, absent = json.loads(sys.argv[1]), json.loads(sys.argv[2])
for name in modules:
    importlib.import_module(name)
print(json.dumps({
    "user": os.getuid(),
    "version": importlib.metadata.version("windlass"),
    "address": socket.gethostbyname("kubernetes.default"),
    "installed": [name for name in absent if importlib.util.find_spec(name)],
    "compilers": [name for name in ("cc", "gcc", "ld", "make") if shutil.which(name)],
}))
"""
# Two processes, as two pods of a job: data parallel on the CPU, with the libraries of the image.
TRAINING = """
import json, os, sys
import torch, torch.distributed, torch.multiprocessing
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

def train(rank, path):
    torch.distributed.init_process_group("gloo", init_method="file:///tmp/rendezvous", rank=rank, world_size=2)
    torch.manual_seed(0)
    sizes = dict(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    lora = LoraConfig(task_type="SEQ_CLS", target_modules=["query"])
    model = get_peft_model(BertForSequenceClassification(BertConfig(**sizes)), lora)
    model = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.02)
    tokens = torch.randint(50, (64, 8), generator=torch.Generator().manual_seed(rank))
    losses = []
    for _ in range(60):
        loss = model(input_ids=tokens, labels=(tokens[:, 0] > 24).long()).loss
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        losses.append(loss.item())
    if rank == 0:
        print(json.dumps({"cuda": torch.cuda.is_available(), "first": losses[0], "last": losses[-1]}))

if __name__ == "__main__":
    torch.multiprocessing.spawn(train, args=("",), nprocs=2)
"""


def restricted(subject: Json) -> Json:
    """The restricted Pod Security Standard, and a writable folder for temporary files."""
    subject["spec"]["containers"][0] |= {
        "securityContext": {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - of the pod
    }
    subject["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    return subject


@pytest.fixture(scope="module")
def images(cluster: LocalCluster) -> LocalCluster:
    """The cluster with a namespace of restricted pods."""
    strict = namespace(NAMESPACE)
    strict["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
    apply(cluster, [strict])
    return cluster


def output_of(cluster: LocalCluster, image: str, name: str, *program: str, seconds: float = 60) -> str:
    """What a program of the image prints in a restricted pod."""
    ended = command(cluster, "up", "--image", image)
    if ended.returncode == EXIT_UNSUPPORTED:
        pytest.skip(ended.stderr.strip())
    assert ended.returncode == 0, ended.stderr
    subject = restricted(pod(NAMESPACE, reference(image), [*program]))
    subject["metadata"]["name"] = name
    apply(cluster, [subject])
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
    with ClusterApi(cluster) as api:
        phases = {"Succeeded", "Failed"}
        eventually(lambda: (api.read(path) or {})["status"].get("phase") in phases, "the pod ends", seconds)
    return kubectl(cluster, "-n", NAMESPACE, "logs", name)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_has_what_its_role_runs_and_nothing_else(images: LocalCluster, name: str) -> None:
    modules, absent = IMAGES[name]
    program = ["python", "-W", "ignore", "-c", PROGRAM, json.dumps(modules), json.dumps(absent)]
    output = output_of(images, name, f"imports-{name}", *program)
    assert json.loads(output.splitlines()[-1]) == {
        "user": 1000,
        "version": version("windlass"),
        "address": "10.96.0.1",
        "installed": [],
        "compilers": [],
    }


def test_the_image_without_cuda_trains_data_parallel_on_the_cpu(images: LocalCluster) -> None:
    program = ["bash", "-c", 'echo "$0" >/tmp/train.py && exec python /tmp/train.py', TRAINING]
    result = json.loads(output_of(images, "ray", "trains", *program, seconds=180).splitlines()[-1])
    assert result["cuda"] is False
    assert result["last"] < 0.9 * result["first"]
