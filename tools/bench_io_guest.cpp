// What `tools/bench io` measures with, in the guest and on the host: rates of a disk or a file, and of a TCP
// connection.
//
//   bench_io_guest disk PATH direct|warm|cached SECONDS [ROW...]    PATH is overwritten
//                                       (direct: O_DIRECT; warm: likewise, and read once before each row; cached:
//                                       neither)
//   bench_io_guest net ADDRESS PORT SECONDS [PREFIX]    PREFIX is put in front of the names
//
// Prints a line "row <name> <value>" for each: operations a second, or megabytes a second.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

using Time = std::chrono::steady_clock;

[[noreturn]] void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

double since(Time::time_point start) {
    return std::chrono::duration<double>(Time::now() - start).count();
}

struct Row {
    const char* name;
    bool writes;
    bool random;
    unsigned depth;
    size_t size;
};
constexpr std::array rows{
    Row{"randread-1", false, true, 1, 4096},   Row{"randwrite-1", true, true, 1, 4096},
    Row{"randread-32", false, true, 32, 4096}, Row{"randwrite-32", true, true, 32, 4096},
    Row{"read", false, false, 4, 1 << 20},     Row{"write", true, false, 4, 1 << 20},
};

struct Disk {
    int fd;
    uint64_t size;
};

Disk open_disk(const char* path, bool direct) {
    const int fd = open(path, O_RDWR | (direct ? O_DIRECT : 0));
    if (fd < 0) fail(path);
    struct stat info {};
    if (fstat(fd, &info) != 0) fail(path);
    auto size = static_cast<uint64_t>(info.st_size);
    if (S_ISBLK(info.st_mode) && ioctl(fd, BLKGETSIZE64, &size) != 0) fail("size");
    return {fd, size};
}

/// The kernel's asynchronous I/O, which every guest has.
void run_row(const Disk& disk, const Row& row, double seconds) {
    aio_context_t context = 0;
    if (syscall(SYS_io_setup, row.depth, &context) < 0) fail("io_setup");
    std::vector<iocb> blocks(row.depth);
    auto* memory = static_cast<char*>(std::aligned_alloc(4096, row.size * row.depth));
    if (!memory) fail("memory");
    std::memset(memory, 0x5A, row.size * row.depth);
    uint64_t random = 88172645463325252, next = 0, done = 0;
    const uint64_t places = disk.size / row.size;
    const auto prepare = [&](iocb& block) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        const uint64_t place = (row.random ? random : next++) % places;
        block = {};
        block.aio_fildes = static_cast<uint32_t>(disk.fd);
        block.aio_lio_opcode = row.writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
        block.aio_buf = reinterpret_cast<uint64_t>(memory + row.size * static_cast<size_t>(&block - blocks.data()));
        block.aio_nbytes = row.size;
        block.aio_offset = static_cast<int64_t>(place * row.size);
        block.aio_data = reinterpret_cast<uint64_t>(&block);
    };
    std::vector<iocb*> ready;
    for (iocb& block : blocks) {
        prepare(block);
        ready.push_back(&block);
    }
    std::vector<io_event> events(row.depth);
    const auto start = Time::now();
    unsigned under_way = 0;
    while (since(start) < seconds || under_way > 0) {
        if (!ready.empty()) {
            const auto count = static_cast<long>(ready.size());
            if (syscall(SYS_io_submit, context, count, ready.data()) != count) fail("io_submit");
            under_way += static_cast<unsigned>(count);
            ready.clear();
        }
        const long got = syscall(SYS_io_getevents, context, 1L, static_cast<long>(row.depth), events.data(), nullptr);
        if (got < 1) fail("io_getevents");
        for (long i = 0; i < got; ++i) {
            const io_event& event = events[static_cast<size_t>(i)];
            if (event.res != static_cast<int64_t>(row.size)) fail("transfer");
            ++done;
            --under_way;
            if (since(start) >= seconds) continue;
            auto* block = reinterpret_cast<iocb*>(event.data);
            prepare(*block);
            ready.push_back(block);
        }
    }
    const double rate = static_cast<double>(done) / since(start);
    std::printf("row %s %.1f\n", row.name, row.random ? rate : rate * static_cast<double>(row.size) / 1e6);
    std::fflush(stdout);
    syscall(SYS_io_destroy, context);
    std::free(memory);
}

/// Brings the whole disk into the cache of whoever has it.
void warm_up(const Disk& disk) {
    constexpr size_t size = 1 << 20;
    auto* memory = static_cast<char*>(std::aligned_alloc(4096, size));
    for (uint64_t at = 0; at + size <= disk.size; at += size) {
        if (pread(disk.fd, memory, size, static_cast<off_t>(at)) != static_cast<ssize_t>(size)) fail("warm up");
    }
    std::free(memory);
}

int connect_to(const char* address, const char* port, char mode) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
    inet_pton(AF_INET, address, &where.sin_addr);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) fail("connect");
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (write(fd, &mode, 1) != 1) fail("mode");
    return fd;
}

void tell(const std::string& name, double value) {
    std::printf("row %s %.2f\n", name.c_str(), value);
    std::fflush(stdout);
}

void run_net(const char* address, const char* port, double seconds, const std::string& prefix) {
    std::vector<char> buffer(1 << 16, 'v');
    int fd = connect_to(address, port, 'p');
    char byte = 0;
    uint64_t trips = 0;
    auto start = Time::now();
    for (; since(start) < seconds; ++trips) {
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) fail("round trip");
    }
    tell(prefix + "round-trip", static_cast<double>(trips) / since(start));
    close(fd);
    fd = connect_to(address, port, 'd');
    uint64_t bytes = 0;
    start = Time::now();
    while (since(start) < seconds) {
        const ssize_t got = read(fd, buffer.data(), buffer.size());
        if (got <= 0) fail("receive");
        bytes += static_cast<uint64_t>(got);
    }
    tell(prefix + "receive", static_cast<double>(bytes) / since(start) / 1e6);
    close(fd);
    fd = connect_to(address, port, 'u');
    bytes = 0;
    start = Time::now();
    while (since(start) < seconds) {
        const ssize_t put = write(fd, buffer.data(), buffer.size());
        if (put <= 0) fail("send");
        bytes += static_cast<uint64_t>(put);
    }
    // What is still on its way counts when it has arrived.
    shutdown(fd, SHUT_WR);
    if (read(fd, &byte, 1) != 1) fail("all sent");
    tell(prefix + "send", static_cast<double>(bytes) / since(start) / 1e6);
    close(fd);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    if (what == "disk" && argc >= 5) {
        const std::string access = argv[3];
        const Disk disk = open_disk(argv[2], access != "cached");
        for (const Row& row : rows) {
            const auto named = [&](const char* name) { return std::string(name) == row.name; };
            if (argc > 5 && std::none_of(argv + 5, argv + argc, named)) continue;
            if (access != "direct") warm_up(disk);
            run_row(disk, row, std::atof(argv[4]));
        }
        return 0;
    }
    if (what == "net" && argc >= 5) {
        run_net(argv[2], argv[3], std::atof(argv[4]), argc > 5 ? argv[5] : "");
        return 0;
    }
    std::fputs(
        "usage: bench_io_guest disk PATH direct|warm|cached SECONDS [ROW...] | net ADDRESS PORT SECONDS [PREFIX]\n",
        stderr);
    return 2;
}
