"""The kernel lab: a real kernel with two memory nodes under QEMU, recorded. Its guest: `experiments/kernel-lab`."""
