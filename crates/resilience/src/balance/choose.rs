//! The choosing itself: strategies over a pool of candidates, none of which looks at more than it must.
//!
//! A candidate is drawn by weight and then asked whether it fits; only when several draws in a row did not fit, all
//! candidates are looked through. So the common case costs the same for three endpoints as for a thousand.

use super::{Ask, NoEndpoint, Strategy, fleet::Fleet, fleet::Member, sticky};
use crate::dice::Dice;
use outrigger_kernel::Mono;
use std::sync::atomic::Ordering::Relaxed;

/// How often a candidate is drawn before all are looked through.
const DRAWS_MAX: usize = 6;

/// How much more than its share of usable weight a zone is trusted to carry.
const OVERPROVISIONING: f64 = 1.4;

/// Some of the fleet's members, ready to be drawn from by weight.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// Positions in the fleet; those with a weight only.
    members: Box<[u32]>,
    /// The weights added up to and with each; empty when all are the same.
    sums: Box<[u64]>,
    weight_max: u32,
}

impl Pool {
    pub(super) fn new(members: impl Iterator<Item = (u32, u32)>) -> Self {
        let weighted: Vec<(u32, u32)> = members.filter(|(_, weight)| *weight > 0).collect();
        let weight_max = weighted.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
        let even = weighted.iter().all(|(_, weight)| *weight == weight_max);
        let mut sum = 0;
        let add = |(_, weight): &(u32, u32)| {
            sum += u64::from(*weight);
            sum
        };
        let sums = if even { Box::default() } else { weighted.iter().map(add).collect() };
        Self { members: weighted.into_iter().map(|(index, _)| index).collect(), sums, weight_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let position = match self.sums.last() {
            None => dice.below(self.members.len() as u64) as usize,
            Some(total) => {
                let drawn = dice.below(*total);
                self.sums.partition_point(|sum| *sum <= drawn)
            }
        };
        self.members[position] as usize
    }

    fn at(&self, position: usize) -> usize {
        self.members[position % self.members.len()] as usize
    }
}

/// One attempt's view of the fleet.
pub(super) struct Choice<'a, T, F> {
    pub(super) fleet: &'a Fleet<T>,
    pub(super) ask: Ask<'a>,
    pub(super) now: Mono,
    pub(super) dice: Dice,
    pub(super) usable: F,
}

/// What a candidate may be without being passed over.
#[derive(Clone, Copy)]
struct Leave {
    ejected: bool,
    tried: bool,
}

impl<T, F: Fn(&T) -> bool> Choice<'_, T, F> {
    pub(super) fn choose(mut self) -> Result<usize, NoEndpoint> {
        let fleet = self.fleet;
        if fleet.all.is_empty() {
            return Err(NoEndpoint::None);
        }
        let steps = [(false, false), (false, true), (true, false), (true, true)];
        let first = if self.panics() { 2 } else { 0 };
        for (ejected, tried) in &steps[first..] {
            if *tried && self.ask.tried.is_empty() {
                continue;
            }
            if let Some(index) = self.by_zone(Leave { ejected: *ejected, tried: *tried }) {
                return Ok(index);
            }
        }
        Err(NoEndpoint::Unusable)
    }

    /// Whether ejections leave too little.
    fn panics(&self) -> bool {
        if self.fleet.shared.ejected_until.load(Relaxed) == 0 {
            return false;
        }
        let (mut left, mut whole) = (0, 0);
        for member in &self.fleet.members {
            let weight = u64::from(member.endpoint.weight);
            whole += weight;
            if (self.usable)(&member.endpoint.value) && !member.state.is_out(self.now) {
                left += weight;
            }
        }
        (left as f64) < whole as f64 * self.fleet.settings.panic_share
    }

    fn by_zone(&mut self, leave: Leave) -> Option<usize> {
        let fleet = self.fleet;
        let Some((own, others)) = &fleet.zones else { return self.from(&fleet.all, leave) };
        let (first, second) = if self.stays(own, leave) { (own, others) } else { (others, own) };
        let chosen = self.from(first, leave).or_else(|| self.from(second, leave))?;
        Some(self.look_outside(chosen, others, leave))
    }

    /// Whether this call is one of those that the own zone can carry.
    fn stays(&mut self, own: &Pool, leave: Leave) -> bool {
        let (mut left, mut whole) = (0, 0);
        for index in &own.members {
            let weight = u64::from(self.fleet.members[*index as usize].endpoint.weight);
            whole += weight;
            if self.fits(*index as usize, Leave { tried: true, ..leave }) {
                left += weight;
            }
        }
        self.dice.unit() < left as f64 / whole.max(1) as f64 * OVERPROVISIONING
    }

    /// The one outside instead, when it costs so much less that the way there pays.
    fn look_outside(&mut self, chosen: usize, others: &Pool, leave: Leave) -> usize {
        let Some(locality) = &self.fleet.settings.locality else { return chosen };
        let is_own = self.fleet.members[chosen].endpoint.zone.as_ref() == Some(&locality.zone);
        if self.fleet.settings.strategy != Strategy::PeakEwma || !is_own {
            return chosen;
        }
        let Some(other) = self.fitting(others, leave, None) else { return chosen };
        let (own_cost, other_cost) = self.costs(chosen, other);
        let factor = locality.cross_zone_cost.max(1.0) as f32;
        if own_cost > other_cost * factor { other } else { chosen }
    }

    fn from(&mut self, pool: &Pool, leave: Leave) -> Option<usize> {
        if pool.is_empty() {
            return None;
        }
        match (self.fleet.settings.strategy, self.ask.key) {
            (Strategy::Random, _) => self.fitting(pool, leave, None),
            (Strategy::RoundRobin, _) => self.in_turn(pool, leave),
            (Strategy::LeastLoaded, _) => self.least_loaded(pool, leave),
            (Strategy::Sticky { load_factor }, Some(key)) => {
                self.sticky(pool, leave, key, load_factor)
            }
            (Strategy::PeakEwma | Strategy::Sticky { .. }, _) => self.of_two(pool, leave),
        }
    }

    fn fits(&self, index: usize, leave: Leave) -> bool {
        let member = &self.fleet.members[index];
        (leave.ejected || !member.state.is_out(self.now))
            && (leave.tried || !self.ask.tried.contains(&member.state.id))
            && (self.usable)(&member.endpoint.value)
    }

    fn risen(&self, member: &Member<T>) -> f32 {
        member.state.risen(self.now, self.fleet.settings.slow_start)
    }

    /// One that fits, drawn by weight; not `but`.
    fn fitting(&mut self, pool: &Pool, leave: Leave, but: Option<usize>) -> Option<usize> {
        if pool.members.len() == 1 {
            let only = pool.at(0);
            return (Some(only) != but && self.fits(only, leave)).then_some(only);
        }
        let mut held_back = false;
        for _ in 0..DRAWS_MAX {
            let index = pool.draw(&mut self.dice);
            if Some(index) == but || !self.fits(index, leave) {
                continue;
            }
            let risen = self.risen(&self.fleet.members[index]);
            if risen >= 1.0 || self.dice.unit() < f64::from(risen) {
                return Some(index);
            }
            held_back = true;
        }
        if held_back && but.is_some() {
            // There is one already; slow start must not end because there are few others.
            return None;
        }
        let start = self.dice.below(pool.members.len() as u64) as usize;
        let mut around = (start..start + pool.members.len()).map(|position| pool.at(position));
        around.find(|index| Some(*index) != but && self.fits(*index, leave))
    }

    fn of_two(&mut self, pool: &Pool, leave: Leave) -> Option<usize> {
        let one = self.fitting(pool, leave, None)?;
        let Some(two) = self.fitting(pool, leave, Some(one)) else { return Some(one) };
        let (one_cost, two_cost) = self.costs(one, two);
        Some(if two_cost < one_cost { two } else { one })
    }

    /// What two endpoints cost, in seconds of expected waiting.
    fn costs(&self, one: usize, two: usize) -> (f32, f32) {
        let decay = self.fleet.settings.decay;
        let (one, two) = (&self.fleet.members[one], &self.fleet.members[two]);
        let (one_latency, two_latency) =
            (one.state.latency(self.now, decay), two.state.latency(self.now, decay));
        // What is not measured yet counts as quick as the other.
        let usual = one_latency.or(two_latency).unwrap_or(1.0);
        let cost = |member: &Member<T>, latency: Option<f32>| {
            let failing = member.state.failing(self.now, decay);
            let penalty = self.fleet.settings.penalty.as_secs_f32() * failing * failing;
            (latency.unwrap_or(usual) + penalty) * self.load(member)
        };
        (cost(one, one_latency), cost(two, two_latency))
    }

    /// Calls in flight, with the one to come, for the weight.
    fn load(&self, member: &Member<T>) -> f32 {
        (member.state.in_flight.load(Relaxed) + 1) as f32 / member.endpoint.weight as f32
    }

    fn least_loaded(&mut self, pool: &Pool, leave: Leave) -> Option<usize> {
        // From anywhere, so that the first of many equals is not always the same.
        let start = self.dice.below(pool.members.len() as u64) as usize;
        let around = (start..start + pool.members.len()).map(|position| pool.at(position));
        let loaded = around.filter(|index| self.fits(*index, leave)).map(|index| {
            let member = &self.fleet.members[index];
            (self.load(member) / self.risen(member), index)
        });
        loaded.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, index)| index)
    }

    /// The next in turn. Of every round an endpoint takes part in the share of rounds that its weight is of the largest.
    fn in_turn(&mut self, pool: &Pool, leave: Leave) -> Option<usize> {
        const WHOLE: u64 = 1 << 16;
        let count = pool.members.len() as u64;
        for _ in 0..(4 * count).max(8) {
            let turn = self.fleet.shared.turn.fetch_add(1, Relaxed);
            let index = pool.at((turn % count) as usize);
            let member = &self.fleet.members[index];
            let share = f64::from(member.endpoint.weight) / f64::from(pool.weight_max);
            let share = (share * f64::from(self.risen(member)) * WHOLE as f64).ceil() as u64;
            let round = (turn / count).wrapping_add(index as u64 / 2);
            let passes = share.wrapping_mul(round) % WHOLE;
            if passes >= WHOLE - share.min(WHOLE) && self.fits(index, leave) {
                return Some(index);
            }
        }
        let start = self.fleet.shared.turn.load(Relaxed) % count;
        let mut around = (start..start + count).map(|position| pool.at(position as usize));
        around.find(|index| self.fits(*index, leave))
    }

    fn sticky(&self, pool: &Pool, leave: Leave, key: u64, load_factor: f64) -> Option<usize> {
        let fitting = pool.members.iter().map(|index| *index as usize);
        let candidates = fitting.filter(|index| self.fits(*index, leave)).map(|index| {
            let member = &self.fleet.members[index];
            let (name_hash, weight) = (member.name_hash, member.endpoint.weight);
            sticky::Candidate { index, name_hash, weight, state: &member.state }
        });
        sticky::place(key, load_factor, candidates)
    }
}
