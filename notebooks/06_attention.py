# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["colab", "remove-cell"]
# On Colab this installs the project and its embedded model. Anywhere else it does nothing.
import importlib.metadata
import importlib.util
import subprocess
import sys

repository = ""
if "google.colab" in sys.modules:
    there = importlib.util.find_spec("emolib") is not None
    if there or repository:
        if not there:
            wanted = f"emolib[chapters] @ {repository}"
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", wanted], check=True)
        subprocess.run([sys.executable, "-m", "emolib.cli", "fetch", "smollm2-135m"], check=True)
        if "numpy" in sys.modules and sys.modules["numpy"].__version__ != importlib.metadata.version("numpy"):
            raise RuntimeError("packages were replaced: choose Runtime, Restart session, then run all")
    else:
        print("Where is the project? Set repository, above, to git+https://github.com/owner/name. Then run all.")

# %% [markdown]
# # 6 Attention: where does the last token look?
#
# **Question.** When the model is about to answer, does its last token look at the emotional words of the event?

# %% tags=["parameters", "hide-input"]
model = "smollm2-135m"
corpus = "situations"
prompt = "T1-2shot"
calibration = "batch"
scoring = "first_subtoken"
text = "masked"
tap = "contribution"
dtype = "float32"
device = "auto"
seed = 0
profile = "quick"
corpus_path = ""

# %% tags=["hide-input"]
from emolib import figures
from emolib.experiments import attention
from emolib.experiments.attention import views
from emolib.figures import readable, say
from emolib.figures.palette import SEGMENT_COLOURS
from emolib.paper import claims, ladder
from emolib.study.freshness import measured, reference_table
from emolib.study.run import Run
from emolib.tables.provenance import footer
from emolib.tables.results import select

run = Run.of(globals())
data, reference = measured(run, attention), reference_table(run, attention)

# %% [markdown]
# ## In short

# %% tags=["hide-input"]
words = ladder.model_by_model(run, attention, views.emotion_words)
change = ladder.model_by_model(run, attention, views.text_change)
say(
    f"In the middle layers, at depth {attention.EARLY:g} to {attention.MIDDLE:g}, the last token looks at an emotion word more than "
    f"at a word like it in {ladder.share_of(words['ci_low'] > 1)}. From the layers before to these, the text of the event as a "
    f"whole gains attention in {ladder.share_of(change['ci_low'] > 0)}. Whether it then has more than the demonstrations is "
    "checked under *Verdict*."
)

# %% tags=["hide-input"]
rows = {
    "attention of an emotion word, as a multiple of that of a word like it": ladder.in_cells(words, ".1f"),
    "change of the share of attention that the text of the event gets": ladder.in_cells(change, "+.2f"),
}
ladder.side_by_side(rows, runs=words["run"])

# %% tags=["hide-input"]
kinds = ladder.model_by_model(run, attention, views.content_and_emotion)
if len(kinds):
    drawn = dict(hue="words", x="depth", ylabel="enrichment", lines={"no preference": 1.0})
    figure = figures.depth_curves(kinds, panel="run", **drawn)
    figure.axes[0].set_yscale("log", base=2)
    figure.axes[0].yaxis.set_major_formatter("{x:g}")
    figures.show(
        figure,
        name="fig-attention-models",
        title=f"Emotion words draw {figures.extremes(words, 'run', '.1f')} times the attention of words like them, in the "
        "middle layers",
        caption="How many times as much weight the last token gives to content words as to other words at the same place of "
        "the text, and to emotion words, answer labels aside, as to content words of the same frequency there, with 95% "
        "intervals over writers, in each model.",
        alt="Enrichment of content words and emotion words over depth, a panel for each model, with a line at 1.",
    )
ladder.badges(run, "06_attention")

# %% [markdown]
# ## What attention is
#
# At every layer $l$ each attention head $j$ of the last token $t$ spreads a weight of 1 over the tokens up to itself,
#
# $$
# \alpha^{(l,j)}_{i}
# = \operatorname{softmax}_i\!\left(\frac{q^{(l,j)}_t \cdot k^{(l,j)}_i}{\sqrt{d_{\text{head}}}}\right),
# \qquad
# a^{(l)}_t = \sum_j W_O^{(l,j)} \sum_{i \le t} \alpha^{(l,j)}_{i}\, v^{(l,j)}_i ,
# $$
#
# with queries $q$ and keys $k$ of length $d_{\text{head}}$, and takes up the value vectors $v_i$ in these proportions.
# {cite:t}`tak2025` describe the three most attended tokens over all heads; their released code takes the single largest
# weight over heads and tokens, the beginning-of-sequence token left out, and their Figure 4 draws the tokens found at
# each layer as boxes of one height, whether one event in a hundred looks there or all. We show how much weight each
# part of the prompt gets, and beside that the paper's statistic with its true counts. Every token belongs to one part:
# the first token, the instruction, the demonstrations, their labels, the *text* of the event, or the format (the words
# "Context:" and "Answer:").
#
# ## How much each part gets
#
# A weight is not yet an influence. Attention often rests on the first token, whose value vectors are short, so that a
# head with nothing to do takes up almost nothing. On the right each weight is therefore multiplied by the length of the
# value vector that it applies to, $\sum_j \alpha^{(j)}_i \lVert v^{(j)}_i \rVert$, and scaled to sum to 1;
# {cite:t}`kobayashi2020` count the output projection $W_O$ as well, which we leave out. The control is attention that
# looks at all tokens alike: the dotted line is the share of the tokens that are the text's. The weights are those of the
# last token only, from the model's own attention in its plainest implementation.

# %% tags=["hide-input"]
stacks, uniform = views.masses(data)
first = views.largest(data).iloc[0]
drawn = dict(colours=SEGMENT_COLOURS, height=2.6, lines={"text under uniform attention": uniform})
figures.show(
    figures.depth_stacks(stacks, panel="metric", column="segment", ylabel="share of attention", **drawn),
    name="fig-attention-mass",
    title=f"At layer {first['where']}, {first['value']:.0%} of the attention, weighted by value length, goes to one part: {readable(first['segment'])}",
    caption=f"Attention of the last token by part of the prompt, mean over heads and {stacks['n'].iloc[0]:,} events "
    "balanced over emotions.",
    alt="Stacked shares of attention by layer: text, demonstrations, their labels, instruction, format, first token.",
)

# %% [markdown]
# Once before your eyes, on one of our own events and the smallest of the models, SmolLM2 135M: below, `look` reads such
# numbers as the figure is made of, and a plain nnsight trace takes the weights of the last token from every attention
# layer. Both agree. Last come the five tokens that it looks at most in the middle of the model, the first token aside.

# %% tags=["intervention"]
import torch

import emolib as el
from emolib.experiments.attention.reading import eager, look
from emolib.texts.corpus import load_corpus
from emolib.texts.prompts import get_prompt

small, event = el.load("smollm2-135m"), load_corpus("situations").events["text"][0]
looks = look(small, get_prompt("T1-2shot"), [event])

ids = small.tokenizer(get_prompt("T1-2shot").render(event), return_tensors="pt")
with torch.no_grad(), eager(small), small.lm.trace(**ids):
    heads = [layer.self_attn.output[1][0, :, -1] for layer in small.lm.model.layers]  # one [head, token] a layer
    weights = torch.stack(heads).mean(1).save()
torch.testing.assert_close(weights, torch.as_tensor(looks.weights[0]), atol=1e-4, rtol=1e-3)

middle = weights[int(0.6 * len(weights))]
most = middle[1:].topk(5).indices + 1
print(event)
[(small.tokenizer.decode(ids["input_ids"][0, place]), f"{middle[place]:.1%}") for place in most]

# %% [markdown]
# ## The paper's statistic, with its counts
#
# One token is taken for each event and layer: the one with the largest weight in any head, the first token left out. The
# panels show for which share of the agreed events it lies in each part of the prompt: a demonstration with its label
# (*demo 1*, *demo 2*), the text of the event, the last "Answer:" behind it (*final cue*), and the rest. The paper's code
# counts in this way. The paper's text speaks of the three most attended tokens instead. A second curve, where it was
# counted, shows the share of events with at least *one of the three* in that part. Three tokens can lie in three parts, so
# these shares add up to more than one.

# %% tags=["hide-input"]
shown, behind = views.counts(data), None if reference is None else views.counts(reference)
three = ", and those with one of the three most attended there" if shown["metric"].nunique() > 1 else ""
most = views.most_in_the_text(data)
drawn = dict(hue="metric", panel="part", x="depth", ylabel="share of events", ylim=(0, 1))
figures.show(
    figures.depth_curves(shown, paper=views.counts(views.published()), reference=behind, **drawn),
    name="fig-attention-top",
    title=f"The most attended token lies in the text for at most {most['value']:.0%} of the events, at layer {most['where']}",
    fold=True,
    caption=f"Share of {shown['n'].iloc[0]:,} events whose most attended token lies in each part of the prompt{three}, 95% "
    "intervals over writers. Dashed: the counts behind Figure 4 of the paper (Llama 3.2 1B, 2,740 events), of the most "
    "attended token, whose format holds the instruction too.",
    alt="Share of events over depth, a panel each for demonstrations, text, final cue, format and instruction.",
)

# %% tags=["hide-input"]
headings = {
    "layers": "in layers",
    "total": "times on top (events × layers)",
    "most": "most often at layer",
    "there": "events at that layer",
}
best = views.top_tokens(data, 8).drop(columns="n").rename(columns=headings)
best.style.format(precision=0, thousands=",").hide()

# %% [markdown]
# The table lists the tokens of the prompt that are on top most often. Words of the event are only ever counted together,
# because its corpus is not ours to print.

# %% tags=["hide-input"]
tokens = [
    f"{row.token} ({row.there / row.n:.0%} of the events at layer {row.most})"
    for row in views.top_tokens(views.published(), 4).itertuples(index=False)
]
say(f"In the paper's counts the prompt tokens most often on top are {'; '.join(tokens)}.")

# %% [markdown]
# ## Demonstrations reordered, relabelled, removed
#
# Is the label looked at for its place, for its word, or because it is there? We swap the order of the demonstrations
# (*shuffled*), give each the label of another one (*relabelled*), and leave them out (*removed*). The share is of the
# attention that does not rest on the first token. Without demonstrations the text is most of what is left to look at.
# Its share would rise even under uniform attention; the numbers below give that expectation.

# %% tags=["hide-input"]
beyond = views.beyond_first(data)
drawn = dict(hue="demonstrations", panel="segment", x="depth", ylabel="share beyond first token", ylim=(0, 1))
figures.show(
    figures.depth_curves(beyond, **drawn),
    name="fig-attention-demonstrations",
    title=f"Largest share of the labels: {figures.extremes(select(beyond, segment='demonstration_label'), 'demonstrations', '.0%')}",
    fold=True,
    caption="Share of the attention beyond the first token that goes to the text of the event and to the labels of the "
    f"demonstrations, {beyond['n'].iloc[0]:,} events, 95% intervals over writers.",
    alt="Two panels over depth, text and labels of the demonstrations, a curve for each treatment of these.",
)

# %% tags=["hide-input"]
later = [
    f"{row.Index} **{row.share:.0%}** (uniform attention: {row.uniform:.0%})"
    for row in views.later_share(data).itertuples()
]
say(
    f"Mean share of the text in the second half of the layers: {'; '.join(later)}. Where the share is below that of uniform "
    "attention, the text gets less than its number of tokens would give it."
)

# %% [markdown]
# ## Which words of the event
#
# *Enrichment* is how many times as much weight a kind of token gets as other tokens of the same event at the same fifth
# of the text; 1 means no preference. *Content words* are compared with the other words. In crowd-enVENT emotion words
# are masked by "...". Where a masked text differs from the text as written, the word that was masked is an *emotion word*;
# these are looked up in the text as written. They are compared with content words of the same frequency, once all of them and once
# without the answer labels themselves, which a model could look for as mere words. The *mask* is compared with all other
# tokens, and with punctuation alone, which models look at whatever it says.

# %% tags=["hide-input"]
times = views.in_the_middle(data)
known = views.EMOTION_WORD in times
drawn = dict(hue="words", panel="panel", x="depth", ylabel="enrichment", lines={"no preference": 1.0})
figure = figures.depth_curves(views.enrichment(data), **drawn)
figure.axes[0].set_yscale("log", base=2)
figure.axes[0].yaxis.set_major_formatter("{x:g}")
most = (
    f"emotion words draw {times[views.EMOTION_WORD]:.1f} times"
    if known
    else f"content words {times['content_word']:.1f} times"
)
figures.show(
    figure,
    name="fig-attention-words",
    title=f"In the middle layers {most} the attention of words like them",
    fold=True,
    caption="Attention of the last token to kinds of words of the event, relative to other words at the same place"
    " (emotion words: and of the same frequency), 95% intervals over writers.",
    alt="Enrichment over depth for content words and, where the corpus masks them, for masks and emotion words.",
)

# %% tags=["hide-input"]
say(
    f"With the answer labels among them emotion words draw {times['emotion_word']:.1f} times the attention of words like them, "
    f"without these {times[views.EMOTION_WORD]:.1f} times. The mask draws {times['mask']:.1f} times the attention of other "
    f"tokens, and {times['mask_against_punctuation']:.1f} times that of punctuation."
    if known
    else "This corpus masks no emotion words: which they are is not known, and not tested."
)

# %% [markdown]
# ## What this shows and what it does not
#
# The chapter bears on claim C9 of the paper: from the middle layers on, the last token attends to the emotional words
# of the event. The test has three parts. The text gets more attention in the middle (the paper's layers 9 to 11 of 16)
# than before. There it gets more than the demonstrations do. And emotion words get more than words like them. What came
# of each stands under the verdict. Here is the first part by three measures, and with the demonstrations changed:

# %% tags=["hide-input"]
say(
    "Change of the share of the text, depth 0.5 to 0.7 minus before, with its interval, for each treatment of the "
    f"demonstrations. For the top token the paper's counts give {views.published_turn():+.2f}."
)
views.turn(data).style.hide()

# %% [markdown]
# An interval above 0 here, and above 1 for the enrichment of emotion words, speaks for the claim. Where early layers
# spread attention widely, the text, which has many tokens, gets much of it without being looked for; the difference
# then counts that against the claim, and enrichment does not. Where early layers rest on one part, such as the format of
# the prompt, the share of the text rises from a low start, and the difference counts that for the claim; what attention
# spread evenly would give stands above. Attention says where the last token can take something
# from, not what it takes: only the interventions of the neighbouring chapters show what is used. The emotion words are
# those that the corpus masks, in texts that the model does not otherwise see in this run; words that carry emotion
# without naming it are not known to us and not tested. The heads are averaged; single heads may do what their mean does
# not.

# %% [markdown]
# ## Verdict

# %% tags=["hide-input"]
say(claims.chapter_verdicts("06_attention", claims.run_tables(f"results/{run.slug}")))
say(footer(data.attrs["provenance"]))

# %% [markdown]
# **Next.** Where attention looks does not say whether its output is needed: [Ablation](B_ablation.ipynb) removes it.
