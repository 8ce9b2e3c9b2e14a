"""Memory policies.  Source: include/uapi/linux/mempolicy.h."""

from typing import Final

MPOL_DEFAULT: Final = 0
MPOL_PREFERRED: Final = 1
MPOL_BIND: Final = 2
MPOL_INTERLEAVE: Final = 3
MPOL_LOCAL: Final = 4
MPOL_PREFERRED_MANY: Final = 5
MPOL_WEIGHTED_INTERLEAVE: Final = 6
MPOL_MAX: Final = 7  # one past the last mode
MPOL_F_STATIC_NODES: Final = 1 << 15
MPOL_F_RELATIVE_NODES: Final = 1 << 14
MPOL_F_NUMA_BALANCING: Final = 1 << 13
MPOL_MODE_FLAGS: Final = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING

# get_mempolicy
MPOL_F_NODE: Final = 1
MPOL_F_ADDR: Final = 2
MPOL_F_MEMS_ALLOWED: Final = 4

# mbind
MPOL_MF_STRICT: Final = 1
MPOL_MF_MOVE: Final = 2
MPOL_MF_MOVE_ALL: Final = 4
