# SPDX-License-Identifier: GPL-3.0-or-later
"""Private servers, a SIMRS-like sample, a workload, a comparison: for the demo and the engine tests."""
