// Models: the virtio 9P transport and a server of 9P2000.L for one folder of the host
// Not modelled: 9P2000 and 9P2000.u, authentication, extended attributes other than users', device nodes, locks against
//   the host's programs
// Ignored bits: users and groups of attach and create (files belong to whoever runs viv), open flags that SharedFolder
//   does not know
// Reference: Plan 9 manual, section 5; diod's protocol.md (9P2000.L); Linux, include/net/9p/9p.h and
//   Documentation/filesystems/9p.rst; Virtual I/O Device (VIRTIO) 1.2, section 5 (device ID 9)
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio/share/p9_message.hpp"
#include "devices/virtio/share/shared_folder.hpp"
#include "devices/virtio/virtio_transport.hpp"
#include "vmm/core/device_context.hpp"

namespace viv {

/// A name that the client has for a file.
struct P9FidState {
    uint32_t number = 0;
    std::string path;
    bool open = false;
    uint32_t flags = 0;  // with which it was opened
    /// Of a fid for an extended attribute: what is read of it, or what is written until it is set.
    enum class Use : uint8_t { file, reads, writes };
    Use use = Use::file;
    std::string attribute;
    uint32_t attribute_flags = 0;
    uint32_t attribute_size = 0;  // that the client will write
    std::vector<uint8_t> value;
    static void fields(auto& self, auto&& visit) {
        visit("number", self.number);
        visit("path", self.path);
        visit("open", self.open);
        visit("flags", self.flags);
        visit("use", self.use);
        visit("attribute", self.attribute);
        visit("attribute-flags", self.attribute_flags);
        visit("attribute-size", self.attribute_size);
        visit("value", self.value);
    }
    bool operator==(const P9FidState&) const = default;
};

struct Virtio9pState {
    uint32_t message_size = 8192;
    std::vector<P9FidState> fids;  // by number
    uint64_t requests = 0;
    uint64_t refused = 0;  // that were no messages
    static void fields(auto& self, auto&& visit) {
        visit("message-size", self.message_size);
        visit("fids", self.fids);
        visit("requests", self.requests);
        visit("refused", self.refused);
    }
    bool operator==(const Virtio9pState&) const = default;
};

/// Requests are answered in the access that tells of them. A fid is a path; files are opened when they are used and
/// closed when too many are, so a saved machine finds them again.
class Virtio9p final : public StatefulDevice<Virtio9pState>, public VirtioFunction {
  public:
    static constexpr uint32_t most_message = 512 * 1024, least_message = 4096;
    static constexpr size_t most_fids = 65'536, most_path_bytes = 16u << 20, longest_tag = 31;
    /// Files of the host that are open at once.
    static constexpr size_t most_files = 128;

    Virtio9p(std::unique_ptr<SharedFolder> folder, std::string tag);

    [[nodiscard]] const VirtioIdentity& identity() const override { return identity_; }
    [[nodiscard]] uint64_t features() const override;
    [[nodiscard]] std::vector<uint8_t> configuration() const override;
    void notified(unsigned queue) override;
    void driver_reset() override;
    [[nodiscard]] Device& device() override { return *this; }
    void reset(ResetKind kind) override;

    /// How many files of the host are open.
    [[nodiscard]] size_t open_files() const { return files_.size(); }

  protected:
    Result<void> validate(const Virtio9pState& staged) const override;
    void before_save() override;
    void after_load() override;

  private:
    /// The part of a fid that is not its number.
    struct Fid {
        std::string path;
        bool open = false;
        uint32_t flags = 0;
        using Use = P9FidState::Use;
        Use use = Use::file;
        std::string attribute = {};
        uint32_t attribute_flags = 0;
        uint32_t attribute_size = 0;
        std::vector<uint8_t> value = {};
        /// What it counts of most_path_bytes.
        [[nodiscard]] size_t cost() const {
            return path.size() + attribute.size() + (use == Use::writes ? attribute_size : value.size());
        }
    };
    struct OpenFile {
        SharedFile file;
        uint64_t used = 0;  // when, by the count of requests
    };
    using Fids = std::map<uint32_t, Fid>;
    [[nodiscard]] static Fid fid_of(const P9FidState& state);

    std::optional<uint32_t> answer(VirtqueueChain& chain, GuestMemory& memory);
    /// Does what a message asks for, and writes the answer behind its header; 0 or an errno value.
    int perform(uint8_t type);

    // Of files
    int version();
    int attach();
    int walk();
    int open();
    int create();
    int read();
    int write();
    int read_folder();
    int sync();
    int clunk();
    // Of names, virtio_9p_names.cpp
    int get_attributes();
    int set_attributes();
    int file_system();
    int make_folder();
    int make_link();
    int read_link();
    int add_name();
    int rename();
    int rename_at();
    int remove();
    int remove_at();
    int lock();
    int get_lock();
    // Of extended attributes, virtio_9p_attributes.cpp
    int walk_attribute();
    int create_attribute();
    int read_attribute(const Fid& fid, uint64_t offset, size_t wanted);
    int write_attribute(Fid& fid, uint64_t offset, std::span<const uint8_t> bytes);
    /// Sets what was written to a fid.
    int finish_attribute(const Fid& fid);

    /// The fid whose number is next in the message.
    Fid* take_fid();
    int add_fid(uint32_t number, Fid fid);
    void forget_fid(Fids::iterator at);
    void forget_session();
    /// The descriptor of a fid that is open.
    int file_of(uint32_t number, const Fid& fid, int& fd);
    void keep_file(uint32_t number, SharedFile file);
    int status_of(uint32_t number, const Fid& fid, struct stat& status);
    int write_qid(const std::string& path);
    [[nodiscard]] P9Qid qid_of(const struct stat& status) const;
    void moved(const std::string& from, const std::string& to);
    int rename_path(const std::string& from, const std::string& to_folder, const std::string& to_name);

    std::unique_ptr<SharedFolder> folder_;
    std::string tag_;
    VirtioIdentity identity_;
    Fids fids_;
    size_t path_bytes_ = 0;
    std::map<uint32_t, OpenFile> files_;
    uint64_t root_device_ = 0;
    // Of the request that runs
    std::vector<uint8_t> message_;
    P9Reader in_{{}};
    P9Writer out_;
    uint32_t number_ = 0;  // of the fid that take_fid() found
    size_t room_ = 0;      // bytes that an answer may have
};

/// viv,function = "9p": viv,folder, viv,tag, viv,read-only.
Result<std::unique_ptr<VirtioFunction>> make_virtio_9p(DeviceContext& context);

}  // namespace viv
