#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "devices/fuzz_board_test.hpp"
#include "devices/network/ethernet.hpp"
#include "devices/network/link/link.hpp"
#include "vmm/core/log.hpp"
#include "vmm/core/temporary_folder_test.hpp"
#include "vmm/core/unix_address.hpp"

using namespace viv;

namespace {

/// A program that listens as passt does.
struct Listener {
    Listener() {
        const sockaddr_un address = unix_address(path).value();
        VIV_ASSERT(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 && listen(fd, 1) == 0);
        set_log_sink([](std::string_view) {});  // that a link was lost
    }
    ~Listener() {
        close(fd);
        set_log_sink({});
    }
    TemporaryFolder folder;
    std::string path = folder.of("socket");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

/// Its end of one link.
struct Peer {
    ~Peer() { hang_up(); }
    void hang_up() {
        if (fd >= 0) close(std::exchange(fd, -1));
    }
    void say(std::span<const uint8_t> bytes) const { send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
    void hear(size_t most) {
        std::vector<uint8_t> bytes(most);
        static_cast<void>(!read(fd, bytes.data(), bytes.size()));
    }
    int fd;
};

}  // namespace

// The input is a row of what the program and the NIC do.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const Listener listener;
    FuzzInput input(data, size);
    FuzzBoard board;
    auto link = open_network_link("passt,socket=" + listener.path, {board.loop, board.clock, {}});
    VIV_ASSERT(link.has_value());
    Peer peer{accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    const auto take = [&link](unsigned most) {
        for (; most > 0 && !(*link)->front().empty(); --most) {
            const size_t length = (*link)->front().size();
            VIV_ASSERT(length >= NetworkLink::least_frame && length <= NetworkLink::most_frame);
            (*link)->pop();
        }
    };
    for (unsigned steps = 0; steps < 100 && !input.empty(); ++steps) {
        const uint8_t kind = input.byte();
        switch (kind & 7) {
            case 0:
            case 1: {
                // Frames, whole or the beginning of one.
                std::vector<uint8_t> bytes(4);
                const uint32_t length = input.number(kind & 8 ? 2 : 1);
                store_big32(bytes, 0, length);
                bytes.resize(4 + (kind & 0x10 ? std::min<size_t>(length, input.number(2)) : length));
                for (unsigned times = kind >> 5; times < 8; ++times) peer.say(bytes);
                break;
            }
            case 2: peer.say(input.some(kind >> 3)); break;
            case 3:
                for (unsigned times = kind >> 3; times < 32; ++times)
                    (*link)->send(std::vector<uint8_t>(input.number(2)));
                break;
            case 4: peer.hear(size_t{64} << (kind >> 4)); break;
            case 5:
                if (kind >> 3 == 0) peer.hang_up();
                if (kind >> 3 == 1) (*link)->set_up(!(*link)->up());
                take(kind >> 3);
                break;
            case 6: take(1000); break;
            case 7: board.loop.poll(); break;
            default: break;
        }
    }
    board.loop.poll();
    take(1000);
    return 0;
}
