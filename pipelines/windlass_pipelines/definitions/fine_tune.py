"""The fine-tuning pipeline, train, register and optionally deploy, for all back ends.

Parameters contain no secrets and no paths: steps read the run context from their environment.
"""

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from windlass import __version__

DEFAULT_IMAGE = f"windlass-pipelines:{__version__}"


# kfp copies the function bodies below into standalone programs, so they must not use names of this module.


def train() -> str:
    """Train; return the outcome: succeeded or stopped."""
    from windlass_pipelines.steps.train import train  # noqa: PLC0415 - see above

    return train()


def register() -> str:
    """Verify and register the artifact; return the decision: candidate or rejected."""
    from windlass_pipelines.steps.register import register  # noqa: PLC0415 - see above

    return register()


def deploy() -> None:
    """Deploy to the endpoint of the job's spec."""
    from windlass_pipelines.steps.deploy import deploy  # noqa: PLC0415 - see above

    deploy()


def fine_tune(image: str = DEFAULT_IMAGE) -> BaseComponent:
    """Return the pipeline; its parameter ``deploy`` enables the deployment of a registered candidate.

    Args:
        image: container image of the steps; ignored by a back end that runs them as processes.
    """
    # By default every step would start with a pip install of kfp.
    train_step, register_step, deploy_step = (
        dsl.component(body, base_image=image, install_kfp_package=False) for body in (train, register, deploy)
    )

    def pipeline(deploy: bool = False) -> None:
        trained = train_step().set_caching_options(enable_caching=False)
        with dsl.If(trained.output == "succeeded"):
            registered = register_step().set_caching_options(enable_caching=False)
            with dsl.If(deploy == True), dsl.If(registered.output == "candidate"):  # noqa: E712 - builds a condition
                deploy_step().set_caching_options(enable_caching=False)

    description = "Fine-tune a model, register the result, optionally serve it."
    return dsl.pipeline(name="fine-tune", description=description)(pipeline)
