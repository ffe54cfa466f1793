"""What the pages of the DCI bench say beside their tables."""

DEFAULTS = """# DCI's defaults: the sweep on held-in subjects

Made by `{command}`.

DCI's options one at a time around the published settings, then together, on held-in subjects of the pocket world. The
model is **overfitted** on purpose, as in the paper's curves: on lightly trained models every place is obeyed without
DCI and nothing can show. *alignment*: the judge's probability of what the prompt asks for; *fidelity*: cosine to the
subject's photos; *area*: alignment times fidelity; *places*: alignment of the prompts without a colour; *noun*:
probability of the class noun. Means with 95 % bootstrap intervals over subjects; differences are of the same subject,
prompt and noise. No held-out subject was looked at. Where cells are missing (n below 5) there is no interval; the
command makes them. With 5 subjects such an interval leaves a true zero outside in 7 to 20 % of cases, and nothing is
corrected for the number of rows."""

REASONS = """## What was decided

- **omega 1, shared guidance, independent auxiliary noise, all layers: as published.** Around the published settings
  none of the others is better by 0.01 of area. With the long window more omega gives a little more alignment (0.5, 1,
  2: about 0.01 and 0.02 each time, beyond the interval), in area undecided: too little to leave the neutral point
  for.
- **window and sharpening: as published for the latents they were published for; for small latents window 1 and
  sharpening by resolution.** On the pocket model's 12 x 12 latents these two together are better than the published
  0.3 beyond the interval, in alignment and in area, at no less fidelity. The window does it; sharpening by resolution
  then keeps the fidelity that window 1 costs.

So the nodes' defaults follow the latents' size (window -1, *auto*): published at 64 x 64, as found here at 12 x 12,
between them evenly in the logarithm of cells; 0.3 in *window* is the published way at every size. Why by size:

- Both constants are about size, and this bench has one size that no user draws at. At 64 x 64 latents sharpening by
  resolution **is** the published one. The window is a fraction of noise levels, and how much noise hides a layout
  depends on how many cells a region has: what sigma 3.3 (window 0.3) hides at 64 x 64 is hidden at 12 x 12 by 12 / 64
  of it, sigma 0.62, which is window 0.78 (resolution shift, Hoogeboom et al. 2023). With window 0.3 the pocket model
  goes on to repaint the surroundings after DCI has ended.
- Window 1 costs 3 rows where plain sampling costs 2, all the time: 1.5 times plain instead of 1.15.

## What stands behind it

- The auxiliary picture obeys: with the auxiliary noun in the subject's place the same overfitted model still draws
  the places that it forgets beside the subject, and the concept picture takes them over. That was
  seen on one subject while looking for the cause; no command measures it.
- The masks are nearly binary as published: 500 divided by the 36 and 9 pixels of the pocket's two scales makes logits
  of 14 and 56 on average, where 512 x 512 pictures on Stable Diffusion have 0.5 to 8. That is what sharpening by
  resolution takes back.
- The colour prompt gains less than the places, likely because the colour word belongs to the subject: the auxiliary
  branch has it on the auxiliary noun, and the masks leave the subject to the concept branch.
- It is a strongly overfitted model. Some subjects have lost their class noun, too (*noun*), and the long window gives
  part of it back, which raises fidelity with alignment."""

EVIDENCE = """# DCI on held-out subjects

Made by `{command}`; settings were frozen before by [the sweep on held-in subjects](dci_defaults.md): window 1,
sharpening by resolution, omega 1.

The raw model is overfitted on purpose, as in the paper's curves: cross-attention keys and values and one learned word
on **one photo**, until it forgets what the prompt asks for beside the subject. *alignment*: the judge's probability
of what the prompt asks for; *fidelity*: cosine to the subject's photos; *area*: what of the unit square a curve's
points dominate, for one point alignment times fidelity; *places*: alignment of the prompts without a colour; *noun*:
probability of the class noun. Means with 95 % bootstrap intervals over subjects; differences are of the same subject,
prompt and noise.

A claim is called *supported* or *contradicted* here where its interval lies on one side of zero, and that alone. With
6 subjects this rule calls a true zero decided in 7 % of cases (normal differences) to 12 to 20 % (skewed ones), and
nothing is corrected for the fifteen claims of this page, nor for those of [evidence.md](evidence.md). The cells
behind the figures are not part of the repository, so that the intervals cannot be recomputed without training again.
Read them as what six subjects showed, not as proof."""

OUTCOME = """## What it says

- **With the published window and sharpening (0.3 in *window*) DCI raises alignment by 0.10** at 1.15
  times the cost of plain sampling: the overfitted model forgets the places, and DCI brings part of them back.
- **With window 1 and sharpening by resolution it is 0.23**, at 1.5 times the cost: 12 x 12 latents decide their
  surroundings at lower noise ([why](dci_defaults.md)). Fidelity hardly moves (undecided). As many network rows spent
  on more plain steps bring nothing. Five of six subjects gain; subject 9 does not: the green of its one photo stays
  in nearly every picture, with DCI or without. What follows is about this setting.
- **Omega matters little.** Alignment rises from -1 to 2, but most of the gain is there at -1. With sharpening by
  resolution a mean logit is 0.5, so that omega -1 still leaves about a quarter of the mixture to the auxiliary
  branch. Fidelity falls with omega by less than its interval.
- **Masks are not shown to help, because here they are misplaced.** The plain mean of both branches is as good. It is
  not that the masks were flat: over their pixels they vary by a deviation of 0.20 at 6 x 6 and 0.30 at 3 x 3. But
  they stand in the wrong places. On held-in subjects real masks gave an area of 0.422, the same masks with their
  pixels permuted 0.466, each mask's own mean 0.467, the plain mean 0.467. Cross-attention exists only at 6 x 6 and 3
  x 3 here, and things always stand in the same place, so the maps hold where a noun usually stands
  ([masks](../benchmarks/results/dci_mask_iou.md)). The published, nearly binary sharpening was not part of this
  ablation. What masks do on a model that looks at finer levels is open. The sum, the paper's ablation, loses the
  class noun in most pictures, but its area is undecided. Split prompts lose the place wholly for some subjects and
  find it for others. The last layer alone is nearly as good as all: the network has few.
- **Fig. 6 is seen here**: over both training checkpoints DCI's curve lies above the raw model's, at equal steps and
  at equal network rows. Two claims about the last checkpoint alone, and the one about fidelity, were written down
  after the first cells had been seen; the others before.
- **ICO with DCI against ICO alone is withdrawn**: ICO's contexts started from words that the pocket model does not
  know ([what was wrong](evidence.md)).
- **The choice of the auxiliary noun is not shown to matter**: one by its prior in the context does as well as one at
  random; here every noun of the world is at home in every place.
- Six of the eight held-out subjects were run, with one training seed; the command goes on where it stopped."""
