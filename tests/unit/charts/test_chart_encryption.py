"""The chart with encryption of the files of projects."""

from tests.charts.rendering import pod_templates, render

FILE = "/var/run/secrets/windlass/master-keys/master-keys"
NAME = "WINDLASS_ENCRYPTION_MASTER_KEYS_FILE"


def test_api_and_worker_and_no_other_pod_have_the_master_keys() -> None:
    values = {"encryption": {"existingSecret": "our-master-keys", "existingSecretKey": "keys"}}
    having = set()
    for owner, pod in pod_templates(render(values)).items():
        if "our-master-keys" not in str(pod):
            assert NAME not in str(pod)
            continue
        having.add(owner.rpartition("/")[2].rpartition(" ")[2])
        [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == "master-keys"]
        assert volume["secret"] == {
            "secretName": "our-master-keys",
            "items": [{"key": "keys", "path": "master-keys"}],
        }
        [container] = pod["spec"]["containers"]
        assert {"name": NAME, "value": FILE} in container["env"]
        [mount] = [each for each in container["volumeMounts"] if each["name"] == "master-keys"]
        assert (mount["readOnly"], FILE.startswith(f"{mount['mountPath']}/")) == (True, True)
    assert having == {"windlass-api", "windlass-worker"}


def test_without_a_secret_nothing_refers_to_master_keys() -> None:
    assert "master-keys" not in str(render())
