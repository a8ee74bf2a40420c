"""
More data than memory: dask on two workers
==========================================

Explainers take dask arrays and dataframes. Every method with a result for each sample then returns
a lazy collection, which is computed block by block wherever dask runs: here in two worker processes
on this machine, elsewhere on a cluster. What is explained does not change, and neither does the
explanation.

The 5,000 heartbeats of ECG5000 would fit into memory many times over. They are used so that the
result can be held against that of an ordinary array.
"""

# %%
# An explainer, fitted as usual
# -----------------------------
import matplotlib.pyplot as plt
import numpy as np

from sklexplain import AnomalyAttributor
from sklexplain.attribution import time_segments
from sklexplain.datasets import load_ecg5000
from sklexplain.nets import Autoencoder

try:
    import dask.array as da
    from distributed import Client
    from distributed.deploy import SubprocessCluster
except ImportError as error:
    raise SystemExit("this example needs dask[array] and distributed") from error

X, y = load_ecg5000(return_X_y=True)
autoencoder = Autoencoder(
    hidden_layer_sizes=(64,), lr=0.003, max_epochs=40, validation_split=None, random_state=0
)
explainer = AnomalyAttributor(autoencoder, groups=time_segments(140, 14), random_state=0)
explainer.fit(X[y == 1][:1000])

# %%
# Samples in blocks
# -----------------
# With ``da.from_zarr`` or ``dask.dataframe.read_parquet`` blocks would come from files. Only the
# axis of the samples may be cut; nothing is computed yet, but shape and type are known.

blocks = da.from_array(X, chunks=(500, -1))
maps = explainer.transform(blocks)
pvalues = explainer.pvalue(blocks)
print(type(maps).__name__, maps.shape, maps.dtype, f"in {maps.numblocks[0]} blocks")
print(type(pvalues).__name__, pvalues.shape)

# %%
# Two workers
# -----------
# ``SubprocessCluster`` starts workers that are processes of their own and that do not run this file
# again. Means of maps by class are asked for, so no worker and not the caller ever holds all maps.

classes = da.from_array(y, chunks=500)
wanted = [maps[classes == label].mean(axis=0) for label in range(1, 6)]
wanted += [da.mean(pvalues[classes == label] <= 0.05) for label in range(1, 6)]

cluster = SubprocessCluster(n_workers=2, worker_kwargs={"nthreads": 1})
with cluster, Client(cluster) as client:
    client.wait_for_workers(2)
    print(f"{len(client.nthreads())} workers")
    results = [future.result() for future in client.compute(wanted)]
    first = client.compute(maps[:1000]).result()
mean_maps, shares = np.array(results[:5]), np.array(results[5:])

# %%
# The same numbers
# ----------------
# Beside those of the array in memory. Float32 is rounded a little differently in blocks of another
# size, so that is what may differ.

in_memory = explainer.transform(X[:1000])
print(f"largest difference from memory: {np.abs(first - in_memory).max():.1e}", end=" ")
print(f"(largest attribution {np.abs(in_memory).max():.1f})")
for label, share in enumerate(shares, start=1):
    print(f"class {label}: {share:6.1%} of {np.sum(y == label)} beats with p ≤ .05")

# %%
names = [name[1:] for name in explainer.groups_]
figure, ax = plt.subplots(figsize=(8, 3), layout="constrained")
image = ax.imshow(mean_maps, cmap="Reds", vmin=0, aspect="auto")
ax.set_xticks(range(14), names, rotation=45, ha="right")
ax.set_yticks(range(5), [f"class {label}" for label in range(1, 6)])
ax.set_xlabel("time steps")
figure.colorbar(image, label="mean part of the error\n(squared sd)")
plt.show()

# %%
# What was found
# --------------
# Blocks on two workers give what memory gives, here to the last bit. And over all 5,000 beats,
# the 1,000 that were learned from among them, abnormal beats have their error at the end, but for
# those of class 5, which have it at steps 20 to 29 as well.
