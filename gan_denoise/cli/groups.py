"""The groups that the help shows the verbs in, and an example of each verb."""

from __future__ import annotations

# group: {verb: a command of at most 66 columns, which the help then shows in one line}
GROUPS: dict[str, dict[str, str]] = {
    "Denoise": {
        "denoise": "gan-denoise denoise recordings/ -o cleaned/",
        "serve": "gan-denoise serve",
        "info": "gan-denoise info calm",
        "bench": "gan-denoise bench --seconds 60",
    },
    "Train": {
        "pretrain": "gan-denoise pretrain --run runs/pretrained data.pairs=my/pairs",
        "finetune": "gan-denoise finetune --init runs/pretrained --run runs/finetuned",
        "export": "gan-denoise export runs/finetuned -o my-model",
    },
    "Measure": {
        "evaluate": "gan-denoise evaluate --noisy my/noisy --clean my/clean --trivial",
        "report": "gan-denoise report scores other-scores -o report.html",
        "plot": "gan-denoise plot runs/pretrained -o curves.png",
        "analyze": "gan-denoise analyze scores --speakers speakers.csv -o study",
    },
    "Data": {
        "check": "gan-denoise check my/speech my/noise",
        "explore": "gan-denoise explore my/speech my/noise -o recordings.html",
        "corpus": "gan-denoise corpus my/speech -o my/speech.corpus",
        "mix": "gan-denoise mix --speech my/speech --noise my/noise -o my/test",
        "rooms": "gan-denoise rooms -o my/rooms --count 100",
        "features": "gan-denoise features -o my/features data.pairs=my/pairs",
    },
    "Studies": {
        "tune": "gan-denoise tune -c tune-example --study study data.pairs=my/pairs",
        "demo": "gan-denoise demo -o demo-out",
        "seeds": "gan-denoise seeds spectrograms -o seeds/spectrograms",
    },
}
