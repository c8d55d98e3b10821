"""The fine-tuning pipeline, `train -> register -> deploy if asked for`, authored once for every back end.

No parameter holds a secret or a path: steps read the run's context from their environment.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from windlass import __version__

DEFAULT_IMAGE = f"windlass-pipelines:{__version__}"


# The bodies below are copied by kfp into programs of their own: they may use nothing of this module.


def train() -> str:
    """Train and return how it ended: succeeded or stopped."""
    from windlass_pipelines.steps.train import train  # noqa: PLC0415 - see above

    return train()


def register() -> str:
    """Verify and register the artifact; return the decision: candidate or rejected."""
    from windlass_pipelines.steps.register import register  # noqa: PLC0415 - see above

    return register()


def deploy() -> None:
    """Ask for the endpoint of the job's spec."""
    from windlass_pipelines.steps.deploy import deploy  # noqa: PLC0415 - see above

    deploy()


def fine_tune(image: str = DEFAULT_IMAGE) -> BaseComponent:
    """Return the pipeline; its one parameter ``deploy`` says whether a registered candidate is to be served.

    Args:
        image: container image of the steps; a back end that runs them as processes ignores it.
    """
    # Without install_kfp_package=False every step would begin with a pip install.
    train_step, register_step, deploy_step = (
        dsl.component(body, base_image=image, install_kfp_package=False) for body in (train, register, deploy)
    )

    def pipeline(deploy: bool = False) -> None:
        trained = train_step().set_caching_options(enable_caching=False)
        with dsl.If(trained.output == "succeeded"):
            registered = register_step().set_caching_options(enable_caching=False)
            with dsl.If(deploy == True), dsl.If(registered.output == "candidate"):  # noqa: E712 - builds a condition
                deploy_step().set_caching_options(enable_caching=False)

    description = "Fine-tune a model, register the result, serve it if asked for."
    return dsl.pipeline(name="fine-tune", description=description)(pipeline)
