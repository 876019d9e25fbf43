/* A library for LD_PRELOAD that gives a process as many processors as BSBR_TEST_PROCESSORS says, whatever the machine has. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

/* 0 or the error: a set may be too small, as it may be for the system. */
static int fill(size_t size, cpu_set_t* set) {
  const int processors = atoi(getenv("BSBR_TEST_PROCESSORS"));
  if (8 * size < (size_t)processors) return EINVAL;
  memset(set, 0, size);
  for (int i = 0; i < processors; ++i) CPU_SET_S(i, size, set);
  return 0;
}

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t* set) {
  (void)pid;
  errno = fill(size, set);
  return errno == 0 ? 0 : -1;
}

int pthread_getaffinity_np(pthread_t thread, size_t size, cpu_set_t* set) {
  (void)thread;
  return fill(size, set);
}
