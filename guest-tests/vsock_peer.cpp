// One end of a connection by AF_VSOCK, in a guest: vsock_peer connect PORT | listen PORT. Its input goes to the other
// end, which is the host, and what comes from there to its output; it ends when both have ended.

#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

[[noreturn]] void give_up(const char* what) {
    std::perror(what);
    std::exit(1);
}

bool write_all(int fd, const char* bytes, size_t size) {
    while (size > 0) {
        const ssize_t written = ::write(fd, bytes, size);
        if (written <= 0) return false;
        bytes += written;
        size -= static_cast<size_t>(written);
    }
    return true;
}

int open_connection(const char* how, unsigned port) {
    const int fd = ::socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0) give_up("socket");
    sockaddr_vm address{};
    address.svm_family = AF_VSOCK;
    address.svm_port = port;
    address.svm_cid = VMADDR_CID_HOST;
    if (std::strcmp(how, "connect") == 0) {
        if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) give_up("connect");
        return fd;
    }
    address.svm_cid = VMADDR_CID_ANY;
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) give_up("bind");
    if (::listen(fd, 1) != 0) give_up("listen");
    std::fprintf(stderr, "listens\n");
    const int peer = ::accept(fd, nullptr, nullptr);
    if (peer < 0) give_up("accept");
    return peer;
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) return 2;
    const int peer = open_connection(words[1], static_cast<unsigned>(std::strtoul(words[2], nullptr, 10)));
    std::array<pollfd, 2> ends{{{0, POLLIN, 0}, {peer, POLLIN, 0}}};
    std::array<char, 65536> bytes{};
    while (ends[0].fd >= 0 || ends[1].fd >= 0) {
        if (::poll(ends.data(), ends.size(), -1) < 0) give_up("poll");
        for (size_t i = 0; i < ends.size(); ++i) {
            if (!ends[i].revents) continue;
            const ssize_t got = ::read(ends[i].fd, bytes.data(), bytes.size());
            if (got < 0) give_up("read");
            if (got == 0) {
                ends[i].fd = -1;
                if (i == 0) ::shutdown(peer, SHUT_WR);
            } else if (!write_all(i == 0 ? peer : 1, bytes.data(), static_cast<size_t>(got))) {
                give_up("write");
            }
        }
    }
    return 0;
}
