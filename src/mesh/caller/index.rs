//! The callers behind IPv4 addresses, for a look-up of a dozen instructions: every query makes one.

use super::Caller;

/// Open addressing, at most half full. Addresses are given by the node's network plug-in, so their hash needs no secret.
#[derive(Clone, Debug)]
pub struct Index {
    /// A power of two, and never without an empty one, which is where a search ends.
    slots: Box<[(u32, Option<Caller>)]>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self { slots: vec![(0, None); 2].into(), len: 0 }
    }
}

impl Index {
    /// The caller behind an address.
    #[inline]
    #[must_use]
    pub fn get(&self, address: u32) -> Option<&Caller> {
        let mut at = self.start(address);
        loop {
            match self.slots.get(at)? {
                (have, Some(caller)) if *have == address => return Some(caller),
                (_, None) => return None,
                _ => at = (at + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// Adds a caller, unless the address has one.
    pub fn add(&mut self, address: u32, caller: Caller) {
        if self.get(address).is_some() {
            return;
        }
        if (self.len + 1) * 2 > self.slots.len() {
            let more = vec![(0, None); self.slots.len() * 2].into();
            for (address, caller) in std::mem::replace(&mut self.slots, more) {
                caller.into_iter().for_each(|caller| self.put(address, caller));
            }
        }
        self.put(address, caller);
        self.len += 1;
    }

    fn put(&mut self, address: u32, caller: Caller) {
        let mut at = self.start(address);
        while self.slots[at].1.is_some() {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = (address, Some(caller));
    }

    #[inline]
    fn start(&self, address: u32) -> usize {
        let mixed = address.wrapping_mul(0x9e37_79b9);
        // Pods of a node differ in the last octets, whose mark is in the upper half of the product.
        (mixed >> 16 ^ mixed) as usize & (self.slots.len() - 1)
    }

    /// Every address with its caller, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Caller)> {
        self.slots.iter().filter_map(|(address, caller)| Some((*address, caller.as_ref()?)))
    }

    /// How many addresses there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::caller::CallerSegment;

    fn caller(pod: u32) -> Caller {
        let segment = CallerSegment::Unknown;
        Caller { segment, enrolled: false, takes_over: false, aaaa: true, pod: Some(pod) }
    }

    #[test]
    fn every_address_has_the_caller_that_was_first() {
        let mut index = Index::default();
        assert!(index.get(0).is_none());
        for n in 0..5000u32 {
            let address = n.wrapping_mul(0x0001_0007);
            index.add(address, caller(n));
            index.add(address, caller(n + 1));
            assert_eq!(index.len(), n as usize + 1);
        }
        for n in 0..5000u32 {
            assert_eq!(index.get(n.wrapping_mul(0x0001_0007)), Some(&caller(n)));
        }
        assert!(index.get(0xffff_ffff).is_none());
        assert_eq!(index.iter().count(), 5000);
    }
}
