"""A study's configuration: validated and frozen, so that an illegal one cannot exist.

Field descriptions are the documentation: `gsvae-tune schema` prints them, the errors quote the
bounds. What an arm's space may contain is known one layer up (`gsvae_tune.search.arms`); here a
space is any mapping of setting names to `Parameter`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from gsvae_tune.study.parameters import Frozen, Parameter, read_parameter

Estimator = Literal["soft", "straight-through", "gumbel-rao", "reinmax", "decoupled"]
Phase = Literal["search", "confirm"]
Metric = Literal["neg_elbo", "iwae"]
Signal = Literal["control", "control-relaxed", "train"]
Precision = Literal["float32", "tf32", "bfloat16"]
Tracker = Literal["tensorboard", "mlflow", "wandb"]
Probability = Annotated[float, Field(gt=0.0, lt=1.0)]

FORMAT_VERSION = 2
ARM_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"


class DataConfig(Frozen):
    """Which images, how they become binary, how they are split."""

    source: str = Field(
        "digits",
        pattern=r"^(digits|mnist|fashion-mnist|(idx|npz):.+)$",
        description="digits (embedded, 8x8), mnist, fashion-mnist, idx:DIR (the four standard idx "
        "files) or npz:FILE (an array `images`, (n, height, width) or (n, pixels))",
    )
    dir: str | None = Field(
        None,
        description="folder of the idx files of mnist or fashion-mnist; default: $GSVAE_DATA, "
        "then the user's cache folder. No part of the study's identity",
    )
    binarization: Literal["threshold", "static", "dynamic", "none"] = Field(
        "threshold",
        description="threshold: pixel > 0.5; static: one Bernoulli draw for the whole study; "
        "dynamic: training images redrawn each epoch, the other splits drawn once; none: grey "
        "values as probabilities. Losses of different binarizations are never comparable",
    )
    limit: int | None = Field(
        None, ge=1, description="use at most this many training images (chosen by the seed)"
    )
    control: Probability = Field(
        0.1, description="share of the images whose loss the temperature controller reads"
    )
    validation: Probability = Field(0.15, description="share of the images that rank the trials")
    test: Probability = Field(
        0.2, description="share sealed for the end; unused where the data set has its own test set"
    )

    @model_validator(mode="after")
    def _shares_leave_training_images(self) -> DataConfig:
        if self.control + self.validation + self.test >= 1.0:
            raise ValueError(
                "control + validation + test leave no training images; legal: a sum below 1"
            )
        return self


class ModelConfig(Frozen):
    """The VAE that every member is: a mirrored multilayer perceptron with categorical latents."""

    hidden: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        (128,),
        min_length=1,
        description="widths of the encoder's hidden layers; the decoder mirrors",
    )
    latents: int = Field(8, ge=1, le=4096, description="number of categorical latent variables")
    categories: int = Field(8, ge=2, le=4096, description="categories of each latent variable")


class TrainingConfig(Frozen):
    """What every trial of every arm trains: equal compute by construction."""

    epochs: int = Field(60, ge=1, le=1_000_000, description="epochs of every trial")
    batch_size: int = Field(
        50, ge=1, le=1_000_000, description="images in a batch; a last partial batch is dropped"
    )
    evaluation_samples: int = Field(
        1,
        ge=1,
        le=10_000,
        description="one-hot code samples an image in each evaluation of the loss",
    )
    precision: Precision = Field(
        "float32",
        description="of the matrix products: float32; tf32 (NVIDIA GPUs round operands, others do "
        "not); bfloat16 (operands and results rounded on every device, sums in float32; the losses "
        "that rank trials are then computed so too)",
    )
    compile: bool = Field(
        default=False,
        description="compile the training step with torch.compile (with CUDA graphs on a GPU); "
        "`gsvae-tune bench` says whether it pays. A trial that cannot compile trains without",
    )
    checkpoint_s: float = Field(
        15.0, gt=0.0, le=30.0, description="seconds between checkpoints of a running trial, at most"
    )

    def steps_per_epoch(self, images: int) -> int:
        return images // self.batch_size


class SearchConfig(Frozen):
    """How configurations are chosen."""

    trials: int = Field(
        20, ge=1, le=1_000_000, description="trials of each arm; may be raised later"
    )
    sampler: Literal["tpe", "random", "qmc", "grid", "gp", "cmaes"] = Field(
        "tpe", description="Optuna's sampler after the random stratum"
    )
    random_fraction: float = Field(
        0.3,
        ge=0.0,
        le=1.0,
        description="share of each arm's trials drawn at random, the first ones; after raising "
        "`trials`, the first of those added",
    )
    grid_points: int = Field(
        3,
        ge=2,
        le=1000,
        description="points per numeric setting for sampler grid; choices are all taken",
    )
    scheduler: Literal["fifo", "asha"] = Field(
        "fifo",
        description="fifo trains every trial to the end (for claims); asha stops weak trials early "
        "(to explore: curves of temperature schedules cross)",
    )
    lookahead: int = Field(
        4,
        ge=1,
        description="a trial is suggested from the results of the trials up to `lookahead` numbers "
        "before it, so that up to this many trials of an arm train at once and suggestions do not "
        "depend on which finishes first",
    )


class ResourcesConfig(Frozen):
    """What a trial gets of the machine. No part of the study's identity."""

    gpus: int | None = Field(
        None, ge=0, le=100_000, description="logical GPUs to use; default: those found"
    )
    cpus: int | None = Field(
        None, ge=1, le=100_000, description="logical CPUs to use; default: those found"
    )
    gpus_per_trial: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="fraction of a GPU a trial, best 1/k; its memory share is enforced. "
        "Default: 0.25 where there is a GPU, else 0",
    )
    cpus_per_trial: float | None = Field(
        None, ge=0.01, description="CPUs a trial; default: 1, or less where GPU trials share them"
    )

    @model_validator(mode="after")
    def _share_is_zero_or_worth_it(self) -> ResourcesConfig:
        share = self.gpus_per_trial
        if share is not None and 0.0 < share < 0.01:
            raise ValueError(f"gpus_per_trial is {share}; legal: 0, or a fraction from 0.01 to 1")
        return self


class FaultsConfig(Frozen):
    """What is done when something fails. No part of the study's identity."""

    retries: int = Field(
        2,
        ge=0,
        le=1000,
        description="times that a trial whose process or node died is taken up again in one run, "
        "from its checkpoint, before it counts as failed",
    )
    give_up_after: int = Field(
        5,
        ge=0,
        description="stop when the first so many trials of a run all fail for the same reason; 0 "
        "never does",
    )
    trial_limit_s: float | None = Field(
        None, gt=0.0, description="seconds that one trial may train; default: no limit"
    )
    trial_memory_gb: float | None = Field(
        None,
        gt=0.0,
        description="host memory that one trial on a CPU may take beyond its process, 1e9 bytes; "
        "enforced on Linux. Default: no limit but the machine's",
    )
    storage_patience_s: float = Field(
        300.0,
        ge=0.0,
        description="seconds for which a storage that cannot be reached is tried again before the "
        "run stops, with all kept",
    )


class SimulateConfig(Frozen):
    """A study that replays results in simulated time instead of training."""

    table: str = Field(
        description="a .parquet or .csv of trials, whose nearest one gives a trial's result, or "
        "valley, a formula"
    )
    slots: int = Field(16, ge=1, le=1_000_000, description="simulated trials at once")
    checksum: str | None = Field(
        None, description="SHA-256 of the table's file; filled in when the study is read"
    )
    spread_nats: float = Field(
        0.05,
        ge=0.0,
        description="standard deviation of a replicate around its configuration's loss, beside "
        "what it shares with the same seed in other trials",
    )
    effects: dict[str, float] = Field(
        default_factory=dict, description="planted: what is added to the losses of an arm, in nats"
    )


class ArmConfig(Frozen):
    """One training method and what is searched in it."""

    method: str | None = Field(
        None, description="the training method; default: the one the arm is named after"
    )
    of: str = Field(
        "pair", description="for method yoked: the arm whose temperature paths are replayed"
    )
    space: dict[str, Annotated[Parameter, BeforeValidator(read_parameter)]] = Field(
        default_factory=dict,
        description="settings of the arm: a value, a list of choices, or {low, high, log, when}; "
        "settings not named keep their default",
    )


class ProtocolConfig(Frozen):
    """From a search result to evidence: fixed before the run, and no function of tau."""

    until: Literal["search", "confirm", "verdict"] = Field(
        "verdict",
        description="the last phase to run; search and confirm leave the test split shut. No part "
        "of the study's identity",
    )
    reopen_test: str | None = Field(
        None,
        min_length=1,
        description="why the test split is opened again, once it was; marks the result, which then "
        "supports no claim. No part of the study's identity",
    )
    top: int = Field(2, ge=1, le=100, description="best trials of each arm that are confirmed")
    replicates: int = Field(
        10, ge=1, le=1024, description="fresh seeds on which each of them is trained again"
    )
    baseline: str = Field("fixed-factor", description="the arm that the others are compared with")
    comparisons: tuple[tuple[str, str], ...] | None = Field(
        None,
        description="the declared family, pairs [arm, baseline]; default: every other arm with the "
        "baseline, and each yoked arm's original with it",
    )
    metric: Metric = Field(
        "neg_elbo",
        description="what verdicts are about, with one-hot codes on the test split: neg_elbo, or "
        "iwae (the negative IWAE bound). A relaxed loss contains tau and is none of the choices",
    )
    iwae_samples: int = Field(
        100, ge=1, le=5000, description="samples an image in the IWAE bound of the test split"
    )
    alpha: float = Field(
        0.05, gt=0.0, lt=0.5, description="error level, Holm over the declared family"
    )
    smallest_effect_nats: float = Field(
        0.1, gt=0.0, description="the smallest difference that would matter"
    )
    compute_tolerance: float = Field(
        0.25,
        ge=0.0,
        description="how far device-seconds of two arms may differ, as a share of the smaller, and "
        "still count as equal; steps, samples and configurations must be equal",
    )


class StudyConfig(Frozen):
    """A whole study."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="the study's name and the name of its folder",
    )
    description: str = Field("", description="one line for the reader")
    seed: int = Field(0, ge=0, lt=2**63, description="every random number of the study follows")
    replicates: int = Field(3, ge=1, le=1024, description="seeds inside a trial, trained stacked")
    data: DataConfig = Field(default_factory=DataConfig, description="the images")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the VAE of every member")
    training: TrainingConfig = Field(
        default_factory=TrainingConfig, description="what every trial trains"
    )
    search: SearchConfig = Field(
        default_factory=SearchConfig, description="how configurations are chosen"
    )
    arms: dict[Annotated[str, Field(pattern=ARM_NAME)], ArmConfig] = Field(
        min_length=1, description="the methods compared"
    )
    protocol: ProtocolConfig = Field(
        default_factory=ProtocolConfig, description="from a search result to evidence"
    )
    resources: ResourcesConfig = Field(
        default_factory=ResourcesConfig, description="what a trial gets of the machine"
    )
    faults: FaultsConfig = Field(
        default_factory=FaultsConfig, description="what is done when something fails"
    )
    report: bool = Field(
        default=True,
        description="write the report at the end of a run: figures and one HTML page. No part of "
        "the study's identity",
    )
    simulate: SimulateConfig | None = Field(
        None, description="replay results in simulated time; nothing is trained"
    )
    tracking: tuple[Tracker, ...] = Field(
        (),
        description="what also shows the trials as they train, in the study's folder tracking/: "
        "tensorboard, mlflow, wandb. No part of the study's identity",
    )
    out: str = Field("studies", description="folder in which the study's folder is made")
    storage: SecretStr | None = Field(  # it may hold a password
        None,
        description="URL of a database, such as postgresql://user@host/name, whose password may "
        "stand in $GSVAE_STORAGE_PASSWORD; default: a journal file in the study's folder",
    )

    def method(self, arm: str) -> str:
        """Return the training method of an arm."""
        return self.arms[arm].method or arm

    def identity(self) -> dict[str, Any]:
        """Return what makes this study this study: all but where it runs and how long."""
        whole = self.model_dump(mode="json")
        for key in ("description", "resources", "faults", "tracking", "out", "report", "storage"):
            del whole[key]
        del whole["data"]["dir"], whole["search"]["trials"], whole["training"]["checkpoint_s"]
        del whole["protocol"]["until"], whole["protocol"]["reopen_test"]
        if whole["simulate"]:
            del whole["simulate"]["slots"]
            if whole["simulate"]["checksum"]:  # what is in the table matters, not where it lies
                del whole["simulate"]["table"]
        # Where one's own images lie does not matter: their checksum is compared.
        whole["data"]["source"] = whole["data"]["source"].partition(":")[0]
        return whole

    def digest(self) -> str:
        """Return the hash of `identity`, hexadecimal."""
        canonical = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
