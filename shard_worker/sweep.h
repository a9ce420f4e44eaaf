// shard_worker/sweep.h: what a killed mpirun leaves behind, and its removal.
//
//   SHM/vader_segment.HOST.UID.JOB.RANK   memory shared by the ranks of a job, megabytes each
//   TMP/ompi.HOST.UID/pid.PID             session directory of the mpirun with that pid
//
// Nothing of a living job is ever removed: a segment goes only when no process has it mapped, it is
// older than the moment between its creation and its mapping, and no process of this user, but the
// first of the system, hides what it maps; a directory goes only when no process has its pid. Only
// plain files and directories of this user are touched, and no symbolic link is followed.
//
// Source    Names: Open MPI 4.1, btl_vader_component.c and session_dir.c.
// Threads   One.
#pragma once

#include <stdint.h>

// Where to look; a test names directories of its own.
struct sweep_places {
    const char *shm_dir;  // "/dev/shm"
    const char *tmp_dir;  // $TMPDIR
    const char *proc_dir; // "/proc"
    const char *host;     // As Open MPI writes it: without the domain.
    uint32_t uid;
};

enum { SWEEP_AGE_S = 1 };

// Removes what dead jobs left; returns how many segments and directories went. What cannot be
// removed stays: the next sweep tries again.
uint32_t sweep_leftovers(const struct sweep_places *places, int64_t now_s);
