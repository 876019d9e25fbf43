/* One fault in one call of one rank: a library for LD_PRELOAD that stands between a program and the system, MPI and HDF5.
 *
 * BSBR_FAULT says what breaks, as words with blanks between them. Lists have commas.
 *
 *   rank=1,2       on which ranks, as the launcher counts them; needed
 *   call=pwrite    in which functions; needed
 *   action=kill    what happens there: kill, stop, segv, abort, exit, exit0, sleep, throw, short, version, or a code that the function
 *                  fails with: EIO, ENOSPC, MPI_ERR_OTHER, ...; needed
 *   number=2       in the second such call; 1 if not given
 *   always=1       in all calls from that one on
 *   path=.part     only calls on files whose path holds this text
 *   least=4096     only calls on at least so many bytes
 *   from=bsbr_     only calls for memory out of a program or library whose path holds one of these texts
 *   after=fsync    only after the first call of one of these functions (on a file of that path)
 *
 * Before anything happens, a line "seconds pid rank" goes to the file BSBR_FAULT_MARK: so it is known that the fault was met, and when.
 */
#undef _FORTIFY_SOURCE /* its open() is an inline function */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { NONE = 0, SHORT = -1, VERSION = -2 }; /* what strike() says, besides a code of errno or MPI */

static struct {
  int armed;
  const char *rank, *calls, *action, *path, *after, *from;
  int number, always;
  size_t least;
  atomic_int later, seen, met; /* whether `after` has been called; calls; faults */
} fault;

static const struct {
  const char* name;
  int code;
} codes[] = {{"EACCES", EACCES}, {"EDQUOT", EDQUOT},  {"EIO", EIO},     {"EMFILE", EMFILE},
             {"ENOMEM", ENOMEM}, {"ENOSPC", ENOSPC},  {"EROFS", EROFS}, {"MPI_ERR_OTHER", MPI_ERR_OTHER},
             {"ENOLCK", ENOLCK}, {"ENOSYS", ENOSYS},  {"ENOTSUP", ENOTSUP}, {"short", SHORT},   {"version", VERSION}};

/* Whether a word stands in a list with commas. */
static int has(const char* list, const char* word) {
  const size_t length = strlen(word);
  for (const char* at = list; (at = strstr(at, word)) != NULL; at += length) {
    if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0')) return 1;
  }
  return 0;
}

static const char* launchers_rank(void) {
  const char* rank = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == NULL) rank = getenv("PMIX_RANK");
  if (rank == NULL) rank = getenv("PMI_RANK");
  return rank == NULL ? "0" : rank;
}

static void read_word(const char* name, const char* value) {
  if (strcmp(name, "rank") == 0) fault.armed = has(value, fault.rank);
  if (strcmp(name, "call") == 0) fault.calls = value;
  if (strcmp(name, "action") == 0) fault.action = value;
  if (strcmp(name, "path") == 0) fault.path = value;
  if (strcmp(name, "after") == 0) fault.after = value;
  if (strcmp(name, "from") == 0) fault.from = value;
  if (strcmp(name, "number") == 0) fault.number = atoi(value);
  if (strcmp(name, "always") == 0) fault.always = atoi(value);
  if (strcmp(name, "least") == 0) fault.least = strtoull(value, NULL, 10);
}

__attribute__((constructor)) static void read_fault(void) {
  static char text[512];
  const char* given = getenv("BSBR_FAULT");
  if (given == NULL || strlen(given) >= sizeof text) return;
  strcpy(text, given);
  fault.rank = launchers_rank();
  fault.calls = fault.action = "";
  fault.number = 1;
  for (char* word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
    char* value = strchr(word, '=');
    if (value == NULL) continue;
    *value = '\0';
    read_word(word, value + 1);
  }
}

/* By the system's own calls, as those of the C library are wrapped here. */
static void mark(void) {
  const char* path = getenv("BSBR_FAULT_MARK");
  struct timespec now;
  char line[96];
  if (path == NULL) return;
  clock_gettime(CLOCK_REALTIME, &now);
  const int size = snprintf(line, sizeof line, "%lld.%09ld %d %s\n", (long long)now.tv_sec, now.tv_nsec, (int)getpid(), fault.rank);
  const long file = syscall(SYS_openat, AT_FDCWD, path, O_CREAT | O_WRONLY | O_APPEND, 0666);
  if (file < 0) return;
  syscall(SYS_write, file, line, size);
  syscall(SYS_close, file);
}

/* Does what is to be done; returns if the call goes on, with the code that it fails with. */
static int act(void) {
  for (size_t i = 0; i < sizeof codes / sizeof *codes; ++i) {
    if (strcmp(fault.action, codes[i].name) == 0) return codes[i].code;
  }
  if (strcmp(fault.action, "kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(fault.action, "stop") == 0) kill(getpid(), SIGSTOP);
  if (strcmp(fault.action, "segv") == 0) raise(SIGSEGV);
  if (strcmp(fault.action, "abort") == 0) abort();
  if (strcmp(fault.action, "exit") == 0) _exit(3);
  if (strcmp(fault.action, "exit0") == 0) _exit(0);
  if (strcmp(fault.action, "sleep") == 0) sleep(60); /* a signal ends it early */
  if (strcmp(fault.action, "throw") == 0) {
    void (*thrower)(const char*) = (void (*)(const char*))dlsym(RTLD_DEFAULT, "_ZSt20__throw_length_errorPKc");
    if (thrower != NULL) thrower("injected");
  }
  return NONE;
}

static int concerns(const char* list, const char* call, const char* path) {
  return list != NULL && has(list, call) && (path == NULL || fault.path == NULL || strstr(path, fault.path) != NULL);
}

/* Every wrapped call comes here first. path: NULL if it has none. -> NONE if the call is to go on. */
static int strike(const char* call, const char* path, size_t bytes) {
  if (!fault.armed) return NONE;
  if (fault.after != NULL && !fault.later) {
    if (concerns(fault.after, call, path)) fault.later = 1;
    return NONE;
  }
  if (bytes < fault.least || !concerns(fault.calls, call, path)) return NONE;
  const int seen = ++fault.seen;
  if (seen < fault.number || (seen > fault.number && !fault.always)) return NONE;
  if (fault.met++ == 0) mark();
  return act();
}

/* The same for a call on an open file, whose path Linux tells. */
static int strike_file(const char* call, int file, size_t bytes) {
  char link[64], path[4096];
  if (!fault.armed) return NONE;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  path[size < 0 ? 0 : size] = '\0';
  return strike(call, path, bytes);
}

static int fails_with(int code) {
  errno = code;
  return -1;
}

/* The function that is wrapped, as the C library or HDF5 has it. */
#define REAL(name) ((__typeof__(&name))real(#name))

static void* real(const char* name) { return dlsym(RTLD_NEXT, name); }

/* ---- files ---- */

/* The mode, where open() has one. */
#define OPEN(name)                             \
  int name(const char* path, int flags, ...) { \
    va_list rest;                              \
    va_start(rest, flags);                     \
    const mode_t mode = va_arg(rest, mode_t);  \
    va_end(rest);                              \
    const int code = strike(#name, path, 0);   \
    if (code != NONE) return fails_with(code); \
    return REAL(name)(path, flags, mode);      \
  }
OPEN(open)
OPEN(open64)

/* A file that is cut while it is read ends before it was thought to. */
#define PREAD(name)                                                \
  ssize_t name(int file, void* data, size_t bytes, off_t offset) { \
    const int code = strike_file(#name, file, bytes);              \
    if (code == SHORT) return 0;                                   \
    if (code != NONE) return fails_with(code);                     \
    return REAL(name)(file, data, bytes, offset);                  \
  }
PREAD(pread)
PREAD(pread64)

/* A disk that becomes full takes the first half, and from then on nothing. */
#define PWRITE(name)                                                     \
  ssize_t name(int file, const void* data, size_t bytes, off_t offset) { \
    const int code = strike_file(#name, file, bytes);                    \
    if (code == SHORT && !fault.always) {                                \
      fault.always = 1;                                                  \
      return REAL(name)(file, data, bytes / 2, offset);                  \
    }                                                                    \
    if (code != NONE) return fails_with(code == SHORT ? ENOSPC : code);  \
    return REAL(name)(file, data, bytes, offset);                        \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int file, const void* data, size_t bytes) {
  const int code = strike_file("write", file, bytes);
  return code != NONE ? fails_with(code) : REAL(write)(file, data, bytes);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  const int code = strike_file("writev", file, 0);
  return code != NONE ? fails_with(code) : REAL(writev)(file, parts, count);
}

int fsync(int file) {
  const int code = strike_file("fsync", file, 0);
  return code != NONE ? fails_with(code) : REAL(fsync)(file);
}

/* The file is closed even then, as Linux has it. */
int close(int file) {
  const int code = strike_file("close", file, 0);
  const int closed = REAL(close)(file);
  return code != NONE ? fails_with(code) : closed;
}

int flock(int file, int operation) {
  const int code = strike_file("flock", file, 0);
  return code != NONE ? fails_with(code) : REAL(flock)(file, operation);
}

int ftruncate(int file, off_t bytes) {
  const int code = strike_file("ftruncate", file, 0);
  return code != NONE ? fails_with(code) : REAL(ftruncate)(file, bytes);
}

int fallocate(int file, int mode, off_t offset, off_t bytes) {
  const int code = strike_file("fallocate", file, 0);
  return code != NONE ? fails_with(code) : REAL(fallocate)(file, mode, offset, bytes);
}

int rename(const char* from, const char* to) {
  const int code = strike("rename", from, 0);
  return code != NONE ? fails_with(code) : REAL(rename)(from, to);
}

/* ---- memory: Kokkos 3 takes it from malloc or posix_memalign, as it was built, Kokkos 4 from aligned_alloc ---- */

static int is_from(const void* address) {
  Dl_info object;
  char list[128];
  if (fault.from == NULL) return 1;
  if (dladdr(address, &object) == 0 || strlen(fault.from) >= sizeof list) return 0;
  char* rest = strcpy(list, fault.from);
  for (char* text; (text = strsep(&rest, ",")) != NULL;) {
    if (strstr(object.dli_fname, text) != NULL) return 1;
  }
  return 0;
}

/* Libraries cope with a want of memory in their own ways, or do not: HDF5 frees what it keeps and tries again, Open MPI may wait for ever.
 */
static int strike_memory(const char* call, size_t bytes, const void* caller) {
  if (!fault.armed || bytes < fault.least || !is_from(caller)) return NONE;
  return strike(call, NULL, bytes) == NONE ? NONE : ENOMEM;
}

#define STRIKE_MEMORY(call, bytes) strike_memory(call, bytes, __builtin_return_address(0))

extern void* __libc_malloc(size_t bytes); /* dlsym() itself may call malloc() */

void* malloc(size_t bytes) {
  if (STRIKE_MEMORY("malloc", bytes) == NONE) return __libc_malloc(bytes);
  errno = ENOMEM;
  return NULL;
}

int posix_memalign(void** data, size_t alignment, size_t bytes) {
  const int code = STRIKE_MEMORY("posix_memalign", bytes);
  return code != NONE ? code : REAL(posix_memalign)(data, alignment, bytes);
}

void* aligned_alloc(size_t alignment, size_t bytes) {
  if (STRIKE_MEMORY("aligned_alloc", bytes) == NONE) return REAL(aligned_alloc)(alignment, bytes);
  errno = ENOMEM;
  return NULL;
}

/* ---- MPI, whose functions have a second name each for such purposes ---- */

static size_t bytes_of(int count, MPI_Datatype type) {
  int size = 0;
  if (fault.armed && count > 0 && type != MPI_DATATYPE_NULL) PMPI_Type_size(type, &size);
  return (size_t)count * (size_t)size;
}

#define MPI_CALL(name, bytes, parameters, arguments) \
  int name parameters {                              \
    const int code = strike(#name, NULL, bytes);     \
    return code != NONE ? code : P##name arguments;  \
  }

MPI_CALL(MPI_Init_thread, 0, (int* count, char*** words, int wanted, int* provided), (count, words, wanted, provided))
MPI_CALL(MPI_Finalize, 0, (void), ())
MPI_CALL(MPI_Comm_dup, 0, (MPI_Comm comm, MPI_Comm* copy), (comm, copy))
MPI_CALL(MPI_Isend, bytes_of(count, type),
         (const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm, MPI_Request* request),
         (data, count, type, to, tag, comm, request))
MPI_CALL(MPI_Irecv, bytes_of(count, type),
         (void* data, int count, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Request* request),
         (data, count, type, from, tag, comm, request))
MPI_CALL(MPI_Allreduce, bytes_of(count, type), (const void* data, void* result, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
         (data, result, count, type, op, comm))
MPI_CALL(MPI_Iallreduce, bytes_of(count, type),
         (const void* data, void* result, int count, MPI_Datatype type, MPI_Op op, MPI_Comm comm, MPI_Request* request),
         (data, result, count, type, op, comm, request))
MPI_CALL(MPI_Bcast, bytes_of(count, type), (void* data, int count, MPI_Datatype type, int root, MPI_Comm comm),
         (data, count, type, root, comm))
MPI_CALL(MPI_Ibcast, bytes_of(count, type), (void* data, int count, MPI_Datatype type, int root, MPI_Comm comm, MPI_Request* request),
         (data, count, type, root, comm, request))
MPI_CALL(MPI_Iallgatherv, 0,
         (const void* data, int count, MPI_Datatype type, void* result, const int counts[], const int offsets[], MPI_Datatype result_type,
          MPI_Comm comm, MPI_Request* request),
         (data, count, type, result, counts, offsets, result_type, comm, request))
MPI_CALL(MPI_Wait, 0, (MPI_Request * request, MPI_Status* status), (request, status))
MPI_CALL(MPI_Waitall, 0, (int count, MPI_Request requests[], MPI_Status* statuses), (count, requests, statuses))
MPI_CALL(MPI_Test, 0, (MPI_Request * request, int* done, MPI_Status* status), (request, done, status))
MPI_CALL(MPI_Testall, 0, (int count, MPI_Request requests[], int* done, MPI_Status statuses[]), (count, requests, done, statuses))

/* ---- HDF5 ---- */

int H5get_libversion(unsigned* major, unsigned* minor, unsigned* release);

int H5get_libversion(unsigned* major, unsigned* minor, unsigned* release) {
  const int result = REAL(H5get_libversion)(major, minor, release);
  if (strike("H5get_libversion", NULL, 0) == VERSION) *release = 99;
  return result;
}
