"""Pretrain generators on a GPU through Keras' JAX backend, from the settings of `pretrain`.

    KERAS_BACKEND=jax python scripts/pretrain_jax.py CONFIG OUT [--workers W] \\
        [--variant NAME:SETTING;SETTING ...] [--race MINUTES] [--filterbank FILE] \\
        [--init OUT] [--against MODEL] [section.key=value ...]

For machines that have JAX and a GPU, and no TensorFlow. The network, the losses, the mixtures and
the schedules are those of `gan-denoise pretrain`, step for step; worker processes mix. Variants
whose data are equal train on the same batches, and all are scored on the validation clips of the
settings that they share; of a race only the one with the lowest loss there goes on. An adversary is
a metric discriminator that is trained already and stays as it is. Left out is what a short run
under watch can do without: TensorBoard, checkpoints to resume from, the watch for dead starts. OUT,
or OUT/NAME of each variant, gets `config.yaml`, `generator.weights.h5` (of the average) and
`log.csv`; from there `gan-denoise finetune --init OUT` and `gan-denoise export` go on under
TensorFlow.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import time
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

from gan_denoise.config.loader import dump_config, load_config
from gan_denoise.config.schema import Config
from gan_denoise.core.tables import write_csv
from gan_denoise.data.datasets import Material, load_material

SLOTS = 3  # batches that a worker may be ahead


# ---- Batches -----------------------------------------------------------------------------------
def _mix(config: Config, worker: int, workers: int, memory: str, free, ready) -> None:
    """Fill slots of shared memory with the batches `worker`, `worker + workers` ..."""
    os.environ["OMP_NUM_THREADS"] = "1"
    source = load_material(config).train
    size, length = config.training.batch_size, config.crop_samples
    block = SharedMemory(memory)
    slots = np.ndarray((SLOTS, 2, size, length), np.float32, block.buf)
    for count, step in enumerate(range(worker, np.iinfo(np.int32).max, workers)):
        free.acquire()
        slots[count % SLOTS] = source.batch(step, size)
        ready.release()


class Batches:
    """Batches of a run in their order, mixed by processes.

    Args:
        config: Settings; their cache of decoded audio must exist already.
        workers: Number of processes.
    """

    def __init__(self, config: Config, workers: int):
        context = multiprocessing.get_context("spawn")
        shape = (SLOTS, 2, config.training.batch_size, config.crop_samples)
        self.workers = workers
        self._blocks, self._slots, self._free, self._ready, self._processes = [], [], [], [], []
        for worker in range(workers):
            block = SharedMemory(create=True, size=4 * math.prod(shape))
            free, ready = context.Semaphore(SLOTS), context.Semaphore(0)
            process = context.Process(
                target=_mix, args=(config, worker, workers, block.name, free, ready), daemon=True)
            process.start()
            self._blocks.append(block)
            self._slots.append(np.ndarray(shape, np.float32, block.buf))
            self._free.append(free)
            self._ready.append(ready)
            self._processes.append(process)

    def take(self, step: int) -> np.ndarray:
        """Return (noisy, clean) of a step, float32 `[2, batch, samples]`."""
        worker, count = step % self.workers, step // self.workers
        while not self._ready[worker].acquire(timeout=60):
            if not self._processes[worker].is_alive():
                raise RuntimeError(f"worker {worker} has ended: see its error above")
        batch = self._slots[worker][count % SLOTS].copy()
        self._free[worker].release()
        return batch

    def close(self) -> None:
        """End the processes and give the memory back."""
        for process in self._processes:
            process.terminate()
        self._slots.clear()
        for block in self._blocks:
            block.close()
            block.unlink()


# ---- Training ----------------------------------------------------------------------------------
def _depthwise_by_shifts(layer, inputs):
    """Do what `DepthwiseConv1D.call` does, as a sum of shifted products.

    XLA fuses it into one kernel, forward and back; as grouped convolutions of cuDNN these layers
    take most of a step.
    """
    from keras import ops

    kernel, dilation = layer.kernel, layer.dilation_rate[0]
    reach = kernel.shape[0] // 2 * dilation
    padded = ops.pad(inputs, [[0, 0], [reach, reach], [0, 0]])
    length = inputs.shape[1]
    total = sum(padded[:, tap * dilation:tap * dilation + length] * kernel[tap, :, 0]
                for tap in range(kernel.shape[0]))
    return layer.activation(total + layer.bias)


class JaxTrainer:
    """The generator, its average and its optimizer as arrays, and the compiled step.

    Args:
        config: Settings.
        filterbank: `mel_filterbank.npy` of an exported model with the same `mel`; None: computed.
        init: Folder with the weights to start from, of a run before or a model.
        against: Folder of a model with the same `mel`, whose metric discriminator judges with
            `losses.adversarial_weight` and does not learn.
    """

    def __init__(self, config: Config, filterbank: np.ndarray | None = None,
                 init: Path | None = None, against: Path | None = None):
        import jax
        import keras
        from jax import numpy as jnp

        from gan_denoise.dsp.keras_mel import KerasMel
        from gan_denoise.dsp.mel import Mel
        from gan_denoise.models.discriminators import build_metric_discriminator
        from gan_denoise.models.generators import build_generator
        from gan_denoise.training.losses import generator_loss
        from gan_denoise.training.objective import Objective

        keras.utils.set_random_seed(config.training.seed)
        keras.layers.DepthwiseConv1D.call = _depthwise_by_shifts
        self.config = config
        self.mel = Mel(config.audio, config.mel, filterbank)
        self.objective = Objective(config, KerasMel(self.mel))
        self.generator = build_generator(config)
        if init is not None:
            self.generator.load_weights(init / "generator.weights.h5")
        judge = None
        if against is not None:
            judge = build_metric_discriminator(config, self.mel.filterbank)
            judge.load_weights(against / "discriminator.weights.h5")
        beta_1, beta_2 = config.training.adam_betas
        kinds = {"muon": lambda: keras.optimizers.Muon(
                     0.0, adam_beta_1=beta_1, adam_beta_2=beta_2),
                 "adam": lambda: keras.optimizers.Adam(0.0, beta_1=beta_1, beta_2=beta_2)}
        self.optimizer = kinds[config.training.optimizer]()
        self.optimizer.build(self.generator.trainable_variables)
        rate = next(i for i, v in enumerate(self.optimizer.variables)
                    if v is self.optimizer._learning_rate)
        objective, generator, optimizer = self.objective, self.generator, self.optimizer
        clip_norm, weight = config.training.clip_norm, config.losses.adversarial_weight

        def loss(trained, fixed, noisy, clean):
            spectra = objective.spectra(noisy, clean)
            estimate, fixed = generator.stateless_call(
                trained, fixed, spectra["noisy01"], training=True)
            terms, total = objective.reconstruction(spectra, estimate)
            if judge is not None:
                candidate = objective.inverted_mel01(noisy, spectra, estimate)
                score = judge([spectra["clean01"], candidate], training=False)[0]
                terms["loss/adversarial"] = generator_loss(score, "hinge")
                total += weight * terms["loss/adversarial"]
            return total, (terms, fixed)

        def step(state, batch, g_rate, decay):
            trained, fixed, average, slots = state
            (total, (terms, moved)), gradients = jax.value_and_grad(loss, has_aux=True)(
                trained, fixed, batch[0], batch[1])
            norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
            finite = jnp.isfinite(norm) & jnp.isfinite(total)
            scale = jnp.where(norm > clip_norm, clip_norm / norm, 1.0) if clip_norm else 1.0
            slots = [*slots[:rate], g_rate, *slots[rate + 1:]]
            stepped, held = optimizer.stateless_apply(
                slots, [g * scale for g in gradients], trained)
            averaged = [decay * a + (1 - decay) * v for a, v in zip(average, stepped, strict=True)]

            def kept(new, old):
                return [jnp.where(finite, n, o) for n, o in zip(new, old, strict=True)]

            state = (kept(stepped, trained), kept(moved, fixed), kept(averaged, average),
                     kept(held, slots))
            return state, terms | {"total": total, "gradient_norm": norm, "finite": finite}

        def estimate(average, fixed, noisy, clean):
            spectra = objective.spectra(noisy, clean)
            mel, _ = generator.stateless_call(average, fixed, spectra["noisy01"], training=False)
            _, total = objective.reconstruction(spectra, mel)
            gain = objective.mel.bin_gain(spectra["noisy01"], mel, config.inversion.gain)
            gained = tuple(gain * part for part in spectra["noisy"])
            return objective.mel.istft(gained, noisy.shape[-1]), total

        self._step, self._estimate = jax.jit(step, donate_argnums=0), jax.jit(estimate)
        values = [v.value for v in generator.trainable_variables]
        self.state = (values, [v.value for v in generator.non_trainable_variables],
                      [jnp.array(v) for v in values], [v.value for v in optimizer.variables])

    def step(self, batch: np.ndarray, g_rate: float, decay: float) -> dict:
        """Do one step and return its terms, still on the device."""
        self.state, terms = self._step(
            self.state, batch, np.float32(g_rate), np.float32(decay))
        return terms

    def save(self, out: Path) -> None:
        """Write the average's weights, with the moving statistics as they are."""
        _, fixed, average, _ = self.state
        for variable, value in zip(self.generator.trainable_variables, average, strict=True):
            variable.assign(value)
        for variable, value in zip(self.generator.non_trainable_variables, fixed, strict=True):
            variable.assign(value)
        part = out / "generator.part.weights.h5"
        self.generator.save_weights(part)
        part.replace(out / "generator.weights.h5")

    def validate(self, noisy: np.ndarray, clean: np.ndarray) -> dict[str, float]:
        """Return SI-SDR and the loss of the average on clips `[clips, samples]`."""
        from gan_denoise.metrics import si_sdr

        _, fixed, average, _ = self.state
        estimate, total = self._estimate(average, fixed, noisy, clean)
        scores = [si_sdr(c, e) for c, e in zip(clean, np.asarray(estimate), strict=True)]
        return {"si_sdr": float(np.mean([s for s in scores if math.isfinite(s)])),
                "loss": float(total)}


def schedule(config: Config, step: int, done: float) -> tuple[float, float]:
    """Return learning rate and decay of the average, as `Trainer.schedule` has them.

    Args:
        config: Settings.
        step: Number of the step.
        done: Share of the run that is over, in [0, 1].
    """
    training = config.training
    cosine = training.final_rate + (1 - training.final_rate) * (1 + math.cos(math.pi * done)) / 2
    warm = min((step + 1) / max(training.warmup_steps, 1), 1.0)
    return training.learning_rate * cosine * warm, min(training.ema_decay, (1 + step) / (10 + step))


class Run:
    """A network in training, its folder and its log.

    Args:
        config: Settings.
        out: Folder; it is made.
        start: `filterbank`, `init` and `against` of `JaxTrainer`.
    """

    def __init__(self, config: Config, out: Path, **start):
        self.config, self.out = config, out
        self.trainer = JaxTrainer(config, **start)
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        self._rows: list[list] = []  # of log.csv
        self._columns: list[str] = []

    def step(self, step: int, batch, done: float, minutes: float) -> None:
        """Do a step and log it now and then, which waits for the device."""
        terms = self.trainer.step(batch, *schedule(self.config, step, done))
        if step % self.config.training.log_every == 0:
            row = {name: float(value) for name, value in terms.items()}
            self._columns = ["step", "minutes", *row]
            self._rows.append([step, f"{minutes:.3f}", *row.values()])

    def save(self, step: int, minutes: float, material: Material) -> float:
        """Validate, print and save; return the loss on the validation clips."""
        scores = self.trainer.validate(material.valid.noisy, material.valid.clean)
        print(f"{self.out.name}: step {step} · {minutes:.2f} min · validation SI-SDR "
              f"{scores['si_sdr']:.2f} · loss {scores['loss']:.4f}", flush=True)
        write_csv(self.out / "log.csv", self._columns, self._rows)
        self.trainer.save(self.out)
        return scores["loss"]


def share_batches(configs: dict[Path, Config], workers: int) -> dict[Path, Batches]:
    """Start the mixing of each run's batches; runs that need the same ones share them.

    Args:
        configs: Settings by the folder of each run.
        workers: Processes that mix, in all.
    """
    needs = {out: (config.data.model_dump_json(), config.training.batch_size, config.crop_samples,
                   config.training.seed) for out, config in configs.items()}
    share = max(workers // len(set(needs.values())), 1)
    made: dict[tuple, Batches] = {}
    for out, config in configs.items():
        if needs[out] not in made:
            print(f"{out}: {load_material(config).summary}", flush=True)  # decoded once, here
            made[needs[out]] = Batches(config, share)
    return {out: made[need] for out, need in needs.items()}


def train(
    configs: dict[Path, Config], shared: Config, workers: int, race: float | None = None, **start,
) -> None:
    """Train networks side by side until `training.steps` or `training.minutes` is over.

    Args:
        configs: Settings by the folder of each run.
        shared: The settings without those of the variants: its validation clips are used, and its
            `training` says how long.
        workers: Processes that mix.
        race: Minutes after which only the run with the lowest validation loss goes on.
        start: `filterbank`, `init` and `against` of `JaxTrainer`.
    """
    import jax

    print(jax.devices()[0], flush=True)
    material = load_material(shared)
    sources = share_batches(configs, workers)
    runs = {Run(config, out, **start): sources[out] for out, config in configs.items()}
    for run in runs:
        print(f"{run.out}: {run.trainer.generator.count_params():,} parameters", flush=True)
    training = shared.training
    started, step, done, minutes = None, 0, 0.0, 0.0
    while done < 1.0:
        given = {source: jax.device_put(source.take(step)) for source in set(runs.values())}
        for run, source in runs.items():
            run.step(step, given[source], done, minutes)
        started = started or time.monotonic()  # compiling is not training
        step += 1
        minutes = (time.monotonic() - started) / 60
        done = min(max(step / training.steps if training.steps else 0,
                       minutes / training.minutes if training.minutes else 0), 1.0)
        if race is not None and minutes >= race and len(runs) > 1:
            losses = {run: run.save(step, minutes, material) for run in runs}
            first = min(losses, key=losses.get)
            print(f"{first.out.name} goes on", flush=True)
            runs = {first: runs[first]}
        if step % training.validate_every == 0 or done >= 1.0:
            for run in runs:
                run.save(step, minutes, material)
    for source in set(sources.values()):
        source.close()


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config")
    parser.add_argument("out", type=Path)
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--variant", action="append", default=[], metavar="NAME[:SETTING;...]",
                        help="train this one too, in OUT/NAME; repeatable")
    parser.add_argument("--race", type=float, metavar="MINUTES",
                        help="after these only the variant with the lowest loss goes on")
    parser.add_argument("--workers", type=int, default=max((os.cpu_count() or 2) - 1, 1))
    parser.add_argument("--filterbank", type=Path,
                        help="mel_filterbank.npy of an exported model, where librosa is missing")
    parser.add_argument("--init", type=Path, help="start from the weights in this folder")
    parser.add_argument("--against", type=Path, metavar="MODEL",
                        help="train against this model's metric discriminator, as it is")
    arguments = parser.parse_args()
    configs = {}
    for variant in arguments.variant or [""]:
        name, _, extra = variant.partition(":")
        settings = [*arguments.settings, *filter(None, extra.split(";"))]
        configs[arguments.out / name] = load_config(arguments.config, settings)
    filterbank = np.load(arguments.filterbank) if arguments.filterbank else None
    shared = load_config(arguments.config, arguments.settings)
    train(configs, shared, arguments.workers, arguments.race, filterbank=filterbank,
          init=arguments.init, against=arguments.against)


if __name__ == "__main__":
    main()
